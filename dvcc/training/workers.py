"""How many processes read samples, and where a network runs before there is a trainer."""

from __future__ import annotations

import torch

from dvcc._processes import cores


def loader_workers(wanted: int | None) -> int:
    """Return how many processes read samples: `wanted`, or if that is None up to eight, all cores but the one that trains."""
    return min(8, cores() - 1) if wanted is None else wanted


def device_of(accelerator: str) -> torch.device:
    """Return where a network runs before the trainer has chosen its device: on a GPU, where there is one that may be used."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
