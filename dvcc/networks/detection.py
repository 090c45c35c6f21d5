"""Detection networks by name, with their weights."""

from __future__ import annotations

from pathlib import Path

from dvcc.networks.detection_student import StudentDetector
from dvcc.networks.detector import DetectionNet
from dvcc.networks.detectors import LAYOUTS, load_detector
from dvcc.networks.detr import DETR_NETS, load_detr
from dvcc.networks.exported import OnnxDetector
from dvcc.networks.faster_rcnn import load_torchvision_detector
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import refuse_options, refuse_random, torchvision_names
from dvcc.networks.onnx_file import check_onnx, is_onnx
from dvcc.networks.stored import taken_from
from dvcc.networks.weights import load_state, load_weights
from dvcc.networks.zoo import ZOO, names


def check_detection_net(model: str) -> None:
    """Raise `ConfigError` or `CheckpointError` for a name or path that `load_detection_net` does not know; nothing is loaded."""
    if is_onnx(model):
        check_onnx(model)
    elif model not in names("detection"):
        layouts = f"an ONNX file (layouts {', '.join(LAYOUTS)})"
        torchvision_names("torchvision.models.detection", model, task="detection", also=[*names("detection"), layouts])


def load_detection_net(
    model: str, *, weights: str | Path | None = None, random: bool = False, options: NetworkOptions | None = None
) -> DetectionNet:
    """Return the network `model`, by its name or the path of an ONNX file.

    Names are "student", a DETR of the zoo, a detection model of torchvision, or a name of the zoo whose weights are an ONNX file
    ("fastestdet", "nanodet_plus", "picodet", "deimv2").

    weights: a file; None: its own. random: random weights instead, for tests. options: of an ONNX file. Raises `ConfigError`,
    `CheckpointError`.
    """
    check_detection_net(model)
    entry = ZOO.get(("detection", model))
    if is_onnx(model) or (entry and entry.is_onnx):
        refuse_random(model, random)
        options = options or NetworkOptions()
        return OnnxDetector(load_detector(weights or model, options=options.over(entry.options) if entry else options))
    refuse_options(model, options)
    if model == "student":
        return _student(weights, random)
    if model in DETR_NETS:
        return load_detr(model, weights=weights, random=random)
    return load_torchvision_detector(model, weights=weights, random=random)


def _student(weights: str | Path | None, random: bool) -> DetectionNet:
    """Our own small network, from a file written by `train.py student task=detection`."""
    if random:
        return StudentDetector()
    path = Path(weights or ZOO["detection", "student"].weights.fetch("student"))
    stored = load_weights(path, kind="detection_student")
    with taken_from(path):
        net = StudentDetector(num_classes=stored.config["num_classes"])
    load_state(net, stored.state, path=path)
    return net
