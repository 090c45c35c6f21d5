"""How a training runs, in values: what `fit` and the folder of a run need to know of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Plan:
    """A training run.

    out: its folder. resume: go on with the run that is there. overwrite: remove it. max_steps: steps of the whole run.
    checkpoint_every, log_every: steps. num_workers: processes that read samples; None: as many as the machine has cores for.
    lightning: further settings of Lightning's Trainer, by its names. log, project: where losses go, and the project's name at
    Weights & Biases. settings: everything that was set, as it is written into the folder and compared when the run is resumed.
    """

    out: Path
    seed: int
    learning_rate: float
    max_steps: int
    batch_size: int
    num_workers: int | None
    checkpoint_every: int
    log: Literal["csv", "wandb"]
    log_every: int
    project: str
    lightning: Mapping[str, Any]
    settings: Mapping[str, Any]
    resume: bool = False
    overwrite: bool = False

    @property
    def lasting_settings(self) -> dict[str, Any]:
        """Return the settings without how the run was begun: a run that was resumed leaves the same files as another."""
        return {**self.settings, "resume": False, "overwrite": False}
