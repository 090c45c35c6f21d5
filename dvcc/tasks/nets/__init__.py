"""Networks of the tasks, and how to load them by name."""

from dvcc.published import assets_folder
from dvcc.tasks.nets.classification import ClassificationNet, check_classification_net, load_classification_net
from dvcc.tasks.nets.detection import check_detection_net, load_detection_net
from dvcc.tasks.nets.detection_student import StudentDetector
from dvcc.tasks.nets.detector import Boxes, DetectionNet, detect
from dvcc.tasks.nets.espnetv2 import ESPNetv2
from dvcc.tasks.nets.optical_flow import check_flow_net, load_flow_net
from dvcc.tasks.nets.segmentation import SegmentationNet, check_segmentation_net, load_segmentation_net
from dvcc.tasks.nets.student import StudentSegmenter

__all__ = [
    "Boxes",
    "ClassificationNet",
    "DetectionNet",
    "ESPNetv2",
    "SegmentationNet",
    "StudentDetector",
    "StudentSegmenter",
    "assets_folder",
    "check_classification_net",
    "check_detection_net",
    "check_flow_net",
    "check_segmentation_net",
    "detect",
    "load_classification_net",
    "load_detection_net",
    "load_flow_net",
    "load_segmentation_net",
]
