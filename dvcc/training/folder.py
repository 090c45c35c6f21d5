"""The folder of a run: what a run writes there, and whether one may begin or go on in it."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from dvcc._files import write_atomic
from dvcc.errors import CheckpointError, ConfigError
from dvcc.training.files import CHECKPOINT, CONFIG, FILES, FOLDERS, first_process, refuse_run
from dvcc.training.plan import Plan

_MAY_CHANGE = (
    *("trainer.", "logger.", "learning_rate", "data.num_workers", "data.cache", "data.store_pixels"),
    *("resume", "overwrite", "cache_only", "engine", "out"),
)
"""What a resumed run may set anew: how long and where it runs. All else would make it a run of two halves."""


def check_out(plan: Plan) -> None:
    """Check, before any work, that a run may begin or go on in its folder.

    Raises `ConfigError` when `out` holds a run and neither `resume` nor `overwrite` is set, or when the run to resume had other
    settings or is further than `trainer.max_steps`; `CheckpointError` when there is no run to resume, or its checkpoint is
    damaged.
    """
    if not first_process():  # the first process of a distributed run has written there by now
        return
    out = plan.out
    if plan.resume:
        _check_resumed(plan)
    elif not plan.overwrite:
        refuse_run(out)


def _check_resumed(plan: Plan) -> None:
    out = plan.out
    if not (out / CONFIG).is_file():
        raise CheckpointError(f"there is no {out / CONFIG}, so no run to resume from (its {CHECKPOINT}): leave out resume=true")
    for key, (before, now) in _differences(plan.settings, _settings(out / CONFIG)).items():
        if not key.startswith(_MAY_CHANGE):
            raise ConfigError(
                f"resume=true goes on with the run in {out}, whose {key} is {before} and not {now}: set it to that, "
                f"or start another run with out=DIR"
            )
    step = (read_checkpoint(out) or {}).get("global_step", 0)
    if step > plan.max_steps:
        raise ConfigError(f"the run in {out} is at step {step}: set trainer.max_steps to that or more")


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read ({reason}): start again with overwrite=true") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} holds no settings: start again with overwrite=true")
    return settings


def _differences(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return (the other value, the value) by dotted key, where two runs are set differently."""
    before, now = _leaves(others), _leaves(settings)
    return {key: (before.get(key), now.get(key)) for key in {**now, **before} if before.get(key) != now.get(key)}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves


def remove_run(out: Path) -> None:
    """Remove what a run wrote to `out`, and nothing else."""
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)


def read_checkpoint(out: Path, module: L.LightningModule | None = None) -> dict[str, Any] | None:
    """`out/last.ckpt`, or None for a run that was stopped before its first one.

    Raises `CheckpointError` unless its checksums (CRC-32 of every zip member) are right and its tensors fit `module`.
    """
    path = out / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state = stored["state_dict"]
    except pickle.UnpicklingError as error:  # torch's own message tells how to run the code
        raise CheckpointError(f"{path} holds more than tensors, so it is not loaded: start again with overwrite=true") from error
    except Exception as error:  # a damaged pickle inside a whole zip can raise anything
        raise CheckpointError(f"{path} is damaged ({error}): start again with overwrite=true") from error
    shapes = {} if module is None else {name: value.shape for name, value in module.state_dict().items()}
    wrong = [name for name, value in state.items() if module is not None and shapes.get(name) != value.shape]
    if wrong:
        raise CheckpointError(f"{path} is of another model ({wrong[0]} does not fit): set out=DIR to the folder of its run")
    return stored


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: Lightning's goes through /tmp, from where a move may be a copy."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(path, buffer.getvalue())


class Checkpoints(Callback):
    """Writes `out/last.ckpt` after every `every`-th step and after the last."""

    def __init__(self, out: Path, *, every: int) -> None:
        self.path, self.every = out / CHECKPOINT, every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.path, weights_only=False)
