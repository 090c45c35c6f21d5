"""COCO's 80 classes: their names, and the numbers 1..90 that some detectors answer instead of 0..79. Nothing is imported."""

from __future__ import annotations

# fmt: off
COCO_NAMES = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
]
# fmt: on
"""Class 0, 1, .. of a candidate, as in COCO's own tools."""

_NO_CLASS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)

COCO_NUMBERS = [number for number in range(1, 91) if number not in _NO_CLASS]
"""COCO's number of class 0, 1, ..: ten of the 90 numbers name nothing."""
