"""Students by task: what each imitates, and how."""

from dvcc.training.distillation.base import Distillation
from dvcc.training.distillation.detection import DetectionDistillation
from dvcc.training.distillation.segmentation import SegmentationDistillation

DISTILLATIONS: dict[str, type[DetectionDistillation] | type[SegmentationDistillation]] = {
    "detection": DetectionDistillation,
    "segmentation": SegmentationDistillation,
}

__all__ = ["DISTILLATIONS", "Distillation"]
