"""Further processes: how many, and how they start. Without torch, which not all of them need."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import BaseContext


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fresh_processes(*modules: str) -> BaseContext:
    """Return how to start processes that have imported `modules`, and have done nothing else.

    Not forked from this one: a fork copies the locks that other threads hold (of a progress bar, of FFmpeg), and waits for them
    for ever. They are forked from a process that imports for all of them.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context
