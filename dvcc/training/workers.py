"""How many processes read and encode samples, and where a network runs before there is a trainer."""

from __future__ import annotations

import os

import torch

from dvcc.config import DataConfig


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loader_workers(data: DataConfig) -> int:
    """Return `data.num_workers`, or up to eight processes when it is not set: all cores but the one that trains."""
    return min(8, cores() - 1) if data.num_workers is None else data.num_workers


def cache_workers(data: DataConfig) -> int:
    """Return `data.cache_workers`, or one process per core when it is not set; 0 on a machine with one."""
    return (cores() if cores() > 1 else 0) if data.cache_workers is None else data.cache_workers


def device_of(accelerator: str) -> torch.device:
    """Return where a network runs before the trainer has chosen its device: on a GPU, where there is one that may be used."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
