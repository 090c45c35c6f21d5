"""What a step depends on: its random numbers and its learning rate are functions of (seed, step), and of nothing before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from dvcc.training.batches import draw_seed

_LAST_RATE = 0.01
"""Of `learning_rate`, at the end of the cosine."""


def seed_step(seed: int, step: int) -> None:
    """Seed torch for one step, so that what is drawn for its whole batch depends on these numbers alone."""
    torch.manual_seed(draw_seed(seed, step))


@contextmanager
def without_drawing(device: torch.device) -> Iterator[None]:
    """Leave the random state as it was found.

    Wrap this around whatever a step computes once and keeps: a resumed run computes it in another step, and must draw the same
    numbers afterwards.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def cosine(step: int, steps: int) -> float:
    """Factor of the learning rate at `step`: from 1 at step 0 down to 0.01 at `steps`."""
    return _LAST_RATE + (1 - _LAST_RATE) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)))


def adam(module: torch.nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Adam over the parameters that train; `Steps` sets its rate at every step."""
    return torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=learning_rate)


class Steps(Callback):
    """Sets the learning rate and the seed before every step.

    The rate is `learning_rate` times a cosine over `max_steps`. Both are the run's settings and not those of a
    checkpoint: after a resume with another `max_steps` or `learning_rate`, every step has the rate that a run with the new
    settings has at that step.
    """

    def __init__(self, *, learning_rate: float, max_steps: int, seed: int) -> None:
        self.learning_rate, self.max_steps, self.seed = learning_rate, max_steps, seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        rate = self.learning_rate * cosine(trainer.global_step, self.max_steps)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate
        module.log("learning_rate", rate)
        seed_step(self.seed, trainer.global_step)
