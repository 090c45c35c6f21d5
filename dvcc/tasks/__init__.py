"""Downstream tasks behind one contract. A task is one file and one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvcc.errors import ConfigError
from dvcc.tasks.base import Task
from dvcc.tasks.classification import ClassificationTask
from dvcc.tasks.detection import DetectionTask
from dvcc.tasks.optical_flow import OpticalFlowTask
from dvcc.tasks.reconstruction import ReconstructionTask
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


def build_task(name: str, *, model: str, weights: str | Path | None = None) -> Task:
    """The task `name` with the network `model`. Raises `ConfigError` for an unknown name."""
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name](model, weights)


__all__ = [
    "TASKS",
    "ClassificationTask",
    "DetectionTask",
    "OpticalFlowTask",
    "ReconstructionTask",
    "SegmentationTask",
    "Task",
    "build_task",
]
