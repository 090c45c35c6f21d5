"""Detection networks by name, with their weights."""

from __future__ import annotations

from pathlib import Path

from torchvision.models import detection as family

from dvcc.networks.detection_student import StudentDetector
from dvcc.networks.detector import DetectionNet
from dvcc.networks.detr import DETR_NETS, load_detr
from dvcc.networks.faster_rcnn import load_torchvision_detector
from dvcc.networks.fastestdet import load_fastestdet
from dvcc.networks.loading import check_onnx, is_onnx, refuse_random, torchvision_names
from dvcc.networks.weights import load_state, load_weights
from dvcc.networks.zoo import ZOO, names


def check_detection_net(model: str) -> None:
    """Raise `ConfigError` or `CheckpointError` for a name or path that `load_detection_net` does not know; nothing is loaded."""
    if is_onnx(model):
        check_onnx(model)
    elif model not in names("detection"):
        torchvision_names(family, model, task="detection", also=names("detection"))


def load_detection_net(model: str, *, weights: str | Path | None = None, random: bool = False) -> DetectionNet:
    """The network `model`: "fastestdet", "student", a DETR of the zoo, a detection model of torchvision, or the path of an ONNX
    file of FastestDet's layout.

    weights: a file; None: its own. random: random weights instead, for tests. Raises `ConfigError`, `CheckpointError`.
    """
    check_detection_net(model)
    if model == "student":
        return _student(weights, random)
    if model == "fastestdet" or is_onnx(model):
        refuse_random(model, random)
        return load_fastestdet(weights or (model if is_onnx(model) else ZOO["detection", model].weights.fetch(model)))
    if model in DETR_NETS:
        return load_detr(model, weights=weights, random=random)
    return load_torchvision_detector(model, weights=weights, random=random)


def _student(weights: str | Path | None, random: bool) -> DetectionNet:
    """Our own small network, from a file written by `train.py student task=detection`."""
    if random:
        return StudentDetector()
    path = Path(weights or ZOO["detection", "student"].weights.fetch("student"))
    stored = load_weights(path, kind="detection_student")
    net = StudentDetector(num_classes=stored.config["num_classes"])
    load_state(net, stored.state, path=path)
    return net
