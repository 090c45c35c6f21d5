"""Students by task: what each imitates, and how."""

from dvcc.pretraining.distillation.base import Distillation
from dvcc.pretraining.distillation.detection import DetectionDistillation
from dvcc.pretraining.distillation.segmentation import SegmentationDistillation

DISTILLATIONS: dict[str, type[DetectionDistillation] | type[SegmentationDistillation]] = {
    "detection": DetectionDistillation,
    "segmentation": SegmentationDistillation,
}

__all__ = ["DISTILLATIONS", "Distillation"]
