"""Measures clips in several processes, each with a bench of its own."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from rich.progress import Progress

from dvcc._processes import cores, fresh_processes
from dvcc.errors import DvccError
from dvcc.evaluation.control.measure import Bench

R = TypeVar("R")

_bench: Bench | None = None
"""The bench of a worker process."""


class Processes:
    """Runs a method of `Bench` on clips, in this process or in several. Use `opened`."""

    def __init__(self, bench: Bench, pool: ProcessPoolExecutor | None, progress: Progress) -> None:
        self._bench, self._pool, self._progress = bench, pool, progress

    def run(self, method: Callable[..., R], clips: Sequence[int], *arguments: Any, title: str) -> list[R]:
        """`method(clip, *arguments)` for every one of the `clips`, in their order. method: of `Bench`, unbound."""
        bar = self._progress.add_task(title, total=len(clips))
        if self._pool is None:
            results = []
            for clip in clips:
                results.append(method(self._bench, clip, *arguments))
                self._progress.advance(bar)
            return results
        futures: list[Future[bytes]] = [self._pool.submit(_run, method.__name__, clip, arguments) for clip in clips]
        try:
            for future in as_completed(futures):
                future.result()
                self._progress.advance(bar)
        except BrokenProcessPool as error:
            raise DvccError("a process of the evaluation was killed, for want of memory perhaps: set workers=1") from error
        return [pickle.loads(future.result()) for future in futures]


@contextmanager
def opened(bench: Bench, build: Callable[[], Bench], *, workers: int | None) -> Iterator[Processes]:
    """Yield `Processes` for a bench: `workers` of them, or one per core for None; at most one per clip.

    build: makes the bench of every other process; sent there by pickle.
    """
    count = min(workers or cores(), len(bench.tests.names))
    with Progress(transient=True) as progress:
        if count <= 1:
            yield Processes(bench, None, progress)
            return
        pool = ProcessPoolExecutor(count, fresh_processes(__name__), initializer=_begin, initargs=(build,))
        try:
            yield Processes(bench, pool, progress)
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(build: Callable[[], Bench]) -> None:
    """Build the bench of a worker; the parent answers an interruption."""
    global _bench
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _bench = build()


def _run(method: str, clip: int, arguments: tuple[Any, ...]) -> bytes:
    """Return what the method returns, pickled here.

    A pool would send every tensor of it as an open file, and there are thousands.
    """
    assert _bench is not None
    return pickle.dumps(getattr(_bench, method)(clip, *arguments))
