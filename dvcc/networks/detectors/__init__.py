"""Detectors as people export them: one file per layout of answers, one dict, and what reads an ONNX file by it.

numpy and onnxruntime alone: neither torch nor onnx is imported.
"""

from __future__ import annotations

from pathlib import Path

from dvcc.errors import ConfigError
from dvcc.networks.detectors.base import Boxes, Layout, select
from dvcc.networks.detectors.deim import Deim
from dvcc.networks.detectors.detector import Detector, candidates_of
from dvcc.networks.detectors.end_to_end import EndToEnd
from dvcc.networks.detectors.fastestdet import FastestDet
from dvcc.networks.detectors.gfl import Nanodet, Picodet
from dvcc.networks.detectors.queries import Detr, RfDetr, RtDetr
from dvcc.networks.detectors.recognise import outputs_of, recognise, shaped_as
from dvcc.networks.detectors.suppressed import BatchedNms, FlatNms, Mmdetection, Paddle, Yolov7
from dvcc.networks.detectors.tensorflow import Tensorflow
from dvcc.networks.detectors.torchvision import Torchvision
from dvcc.networks.detectors.ultralytics import Ultralytics, UltralyticsRows
from dvcc.networks.detectors.yolo_nas import YoloNas
from dvcc.networks.detectors.yolov5 import Yolov5, YoloxDecoded
from dvcc.networks.detectors.yolox import Yolox
from dvcc.networks.feed import OPEN_MULTIPLE, Feed, NetworkOptions
from dvcc.networks.onnx_file import PROBE, OnnxFile, is_onnx, probe_pictures

LAYOUTS: dict[str, Layout] = {
    "ultralytics": Ultralytics(),
    "ultralytics_rows": UltralyticsRows(),
    "yolo_nas": YoloNas(),
    "yolov5": Yolov5(),
    "yolox": Yolox(),
    "yolox_decoded": YoloxDecoded(),
    "end_to_end": EndToEnd(),
    "deim": Deim(),
    "rfdetr": RfDetr(),
    "detr": Detr(),
    "rtdetr": RtDetr(),
    "nanodet": Nanodet(),
    "picodet": Picodet(),
    "fastestdet": FastestDet(),
    "torchvision": Torchvision(),
    "mmdetection": Mmdetection(),
    "yolov7_end2end": Yolov7(),
    "batched_nms": BatchedNms(),
    "flat_nms": FlatNms(),
    "paddle": Paddle(),
    "tensorflow": Tensorflow(),
}
"""Every layout by its name for `task.layout`."""


def load_detector(
    model: str | Path,
    *,
    options: NetworkOptions | None = None,
    threads: int | None = None,
) -> Detector:
    """Return the detector of an ONNX file, or of a name of the zoo whose weights are one ("fastestdet", "nanodet_plus", ..).

    options: layout and feed, where the file does not tell them or the layout's own are wrong. threads: of onnxruntime. Raises
    `CheckpointError` for a file that is no detector, `ConfigError` for options that do not fit it and a network of no ONNX file.
    """
    path, options = Path(model), options or NetworkOptions()
    if not is_onnx(str(model)):
        from dvcc.networks.zoo import zoo_entry

        entry = zoo_entry("detection", str(model))
        if not entry.is_onnx:
            raise ConfigError(f"{model} is no ONNX file, and onnxruntime alone runs those: give one, or a name as nanodet_plus")
        path, options = entry.weights.fetch(entry.name), options.over(entry.options)
    file = OnnxFile(path, threads=threads)
    canvas = file.canvas(PROBE, options, multiple=OPEN_MULTIPLE)
    # How to feed it follows from the layout, which follows from its answers, whose form does not depend on the feed.
    answers = file.probe(probe_pictures(canvas) * (options.range or file.feed(Feed()).range))
    file.outputs = outputs_of(LAYOUTS, answers, canvas, file.output_names)
    answers = [answers[i] for i in file.outputs]
    layout = recognise(LAYOUTS, answers, canvas, options=options, what=str(path))
    feed = file.feed(layout.feed).changed(options)
    classes, fitting = layout.num_classes(answers, options), shaped_as(LAYOUTS, answers, canvas)
    return Detector(file, layout, feed=feed, options=options, num_classes=classes, fitting=[fitted.name for fitted in fitting])


__all__ = [
    "LAYOUTS",
    "Boxes",
    "Detector",
    "Layout",
    "candidates_of",
    "load_detector",
    "outputs_of",
    "recognise",
    "select",
    "shaped_as",
]
