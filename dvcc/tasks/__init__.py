"""Downstream tasks behind one contract. A task is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from dvcc.errors import ConfigError
from dvcc.networks.classification import check_classification_net
from dvcc.networks.detection import check_detection_net
from dvcc.networks.embedding import check_embedding_net
from dvcc.networks.factory import call_place, import_place, is_place, make_module
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import refuse_options
from dvcc.networks.optical_flow import check_flow_net
from dvcc.networks.segmentation import check_segmentation_net
from dvcc.networks.zoo import OWN
from dvcc.tasks.base import MeanScore, Task
from dvcc.tasks.classification import ClassificationTask
from dvcc.tasks.detection import DetectionTask
from dvcc.tasks.embedding import EmbeddingTask
from dvcc.tasks.optical_flow import OpticalFlowTask
from dvcc.tasks.reconstruction import ReconstructionTask, check_metric
from dvcc.tasks.segmentation import SegmentationTask


def _reconstruction(*, model: Any = None, weights: str | Path | None = None, net: nn.Module | None = None) -> ReconstructionTask:
    if net is not None:
        raise ConfigError(f"reconstruction takes no network, got a {type(net).__name__}: set task.model to psnr or ssim")
    if weights is not None:
        raise ConfigError(f"reconstruction has no network, so task.weights={weights} would be ignored: leave it out")
    return ReconstructionTask(metric=model)


TASKS: dict[str, Callable[..., Task]] = {
    "classification": ClassificationTask,
    "detection": DetectionTask,
    "embedding": EmbeddingTask,
    "optical_flow": OpticalFlowTask,
    "reconstruction": _reconstruction,
    "segmentation": SegmentationTask,
}


_FED = ("classification", "detection", "embedding", "segmentation")
"""Tasks whose networks can be files or modules that are fed in other ways."""


def _check_name(name: str) -> None:
    if name not in TASKS:
        choices = f"{', '.join(TASKS)}, or package.module:name of a task of your own"
        raise ConfigError(f"there is no task {name!r}: choose one of {choices}")


def build_task(name: str, *, model: str, weights: str | Path | None = None, options: NetworkOptions | None = None) -> Task:
    """Return the task `name` with the network `model`; either may be the package.module:name of your own. Raises `ConfigError`.

    An own network is a function without arguments, or a class, that gives an `nn.Module`; it loads its weights itself. An own
    task is one that gives a `Task`: it is called with `model` unless that is "own", and with `weights` if there are any.
    options: layout and preprocessing of an ONNX file or of an own network.
    """
    if is_place(name):
        refuse_options(name, options)
        settings = {"model": None if model == OWN else model, "weights": weights}
        task = call_place(name, **{key: value for key, value in settings.items() if value is not None})
        if not isinstance(task, Task):
            raise ConfigError(f"{name} gave a {type(task).__name__}: return a dvcc.tasks.Task")
        return task
    _check_name(name)
    if is_place(model):
        if weights is not None:
            raise ConfigError(f"{model} loads its own weights, so task.weights={weights} would be ignored: leave it out")
        return TASKS[name](net=make_module(model), **_settings(name, model, options))
    return TASKS[name](model=model, weights=weights, **_settings(name, model, options))


def _settings(name: str, model: str, options: NetworkOptions | None) -> dict[str, NetworkOptions]:
    """Return the options as a task takes them. Raises `ConfigError` for a task that takes none."""
    if options is None or not options.given:
        return {}
    if name not in _FED:
        refuse_options(model, options)
    return {"options": options}


_CHECKS = {
    "classification": check_classification_net,
    "detection": check_detection_net,
    "embedding": check_embedding_net,
    "optical_flow": check_flow_net,
    "reconstruction": check_metric,
    "segmentation": check_segmentation_net,
}


def check_model(name: str, model: str) -> None:
    """Raise `ConfigError` or `CheckpointError` for an unknown task, or a network that it does not know.

    Nothing is loaded, but the module of an own task or network is imported.
    """
    if is_place(name):
        import_place(name)
        return
    _check_name(name)
    if is_place(model):
        import_place(model)
    else:
        _CHECKS[name](model)


__all__ = [
    "TASKS",
    "ClassificationTask",
    "DetectionTask",
    "EmbeddingTask",
    "MeanScore",
    "OpticalFlowTask",
    "ReconstructionTask",
    "SegmentationTask",
    "Task",
    "build_task",
    "check_model",
]
