"""Networks of the tasks, and how to load them by name."""

from dvcc.tasks.nets.classifier import ClassificationNet, load_classification_net
from dvcc.tasks.nets.espnetv2 import ESPNetv2
from dvcc.tasks.nets.loading import SegmentationNet, assets_folder, load_flow_net, load_segmentation_net
from dvcc.tasks.nets.student import StudentSegmenter

__all__ = [
    "ClassificationNet",
    "ESPNetv2",
    "SegmentationNet",
    "StudentSegmenter",
    "assets_folder",
    "load_classification_net",
    "load_flow_net",
    "load_segmentation_net",
]
