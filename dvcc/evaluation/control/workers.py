"""Measures clips by the workers of an engine, each with a bench of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.progress import Progress

from dvcc.engines import Workers, open_workers
from dvcc.evaluation.control.measure import Bench

R = TypeVar("R")


class BenchWorkers:
    """Runs a method of `Bench` on clips, with a progress bar. Use `opened`."""

    def __init__(self, workers: Workers[Bench], progress: Progress) -> None:
        self._workers, self._progress = workers, progress

    def run(self, method: Callable[..., R], clips: Sequence[int], *arguments: Any, title: str) -> list[R]:
        """`method(clip, *arguments)` for every one of the `clips`, in their order. method: of `Bench`, unbound."""
        bar = self._progress.add_task(title, total=len(clips))
        pieces = [(method, clip, *arguments) for clip in clips]
        return self._workers.map(_measure, pieces, advance=lambda: self._progress.advance(bar))


@contextmanager
def opened(bench: Bench, build: Callable[[], Bench], *, engine: str, workers: int | None) -> Iterator[BenchWorkers]:
    """Yield `BenchWorkers` for a bench. build: makes that of every worker but this process."""
    clips = len(bench.tests.names)
    with (
        Progress(transient=True) as progress,
        open_workers(engine, build, pieces=clips, workers=workers, here=bench, imports=(__name__,)) as started,
    ):
        yield BenchWorkers(started, progress)


def _measure(bench: Bench, piece: tuple[Any, ...]) -> Any:
    method, *arguments = piece
    return method(bench, *arguments)
