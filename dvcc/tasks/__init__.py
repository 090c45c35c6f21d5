"""Downstream tasks behind one contract. A task is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvcc.errors import ConfigError
from dvcc.networks.classification import check_classification_net
from dvcc.networks.detection import check_detection_net
from dvcc.networks.optical_flow import check_flow_net
from dvcc.networks.segmentation import check_segmentation_net
from dvcc.tasks.base import Task
from dvcc.tasks.classification import ClassificationTask
from dvcc.tasks.detection import DetectionTask
from dvcc.tasks.optical_flow import OpticalFlowTask
from dvcc.tasks.reconstruction import ReconstructionTask, check_metric
from dvcc.tasks.segmentation import SegmentationTask


def _reconstruction(model: Any, weights: str | Path | None) -> ReconstructionTask:
    if weights is not None:
        raise ConfigError(f"reconstruction has no network, so task.weights={weights} would be ignored: leave it out")
    return ReconstructionTask(metric=model)


TASKS = {
    "classification": lambda model, weights: ClassificationTask(model=model, weights=weights),
    "detection": lambda model, weights: DetectionTask(model=model, weights=weights),
    "optical_flow": lambda model, weights: OpticalFlowTask(model=model, weights=weights),
    "reconstruction": _reconstruction,
    "segmentation": lambda model, weights: SegmentationTask(model=model, weights=weights),
}


def _check_name(name: str) -> None:
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}: choose one of {', '.join(TASKS)}")


def build_task(name: str, *, model: str, weights: str | Path | None = None) -> Task:
    """The task `name` with the network `model`. Raises `ConfigError` for an unknown name."""
    _check_name(name)
    return TASKS[name](model, weights)


_CHECKS = {
    "classification": check_classification_net,
    "detection": check_detection_net,
    "optical_flow": check_flow_net,
    "reconstruction": check_metric,
    "segmentation": check_segmentation_net,
}


def check_model(name: str, model: str) -> None:
    """Raise `ConfigError` or `CheckpointError` for an unknown task, or a network that it does not know. Nothing is loaded."""
    _check_name(name)
    _CHECKS[name](model)


__all__ = [
    "TASKS",
    "ClassificationTask",
    "DetectionTask",
    "OpticalFlowTask",
    "ReconstructionTask",
    "SegmentationTask",
    "Task",
    "build_task",
    "check_model",
]
