"""What every engine is: workers with a state each, that take pieces of work and give futures back."""

from __future__ import annotations

import pickle
import sys
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dvcc.errors import DvccError

S = TypeVar("S")
P = TypeVar("P")
R = TypeVar("R")

Work = Callable[[S, P], R]
"""A function of a module, of a worker's state and a piece: it is pickled, as are pieces and results."""


class Workers(AbstractBase, Generic[S]):
    """Workers of an engine, a context manager: see `dvcc.engines.open_workers` for what they are made of.

    A piece that raises `DvccError` ends the sweep with it, as does one whose worker was killed. What pieces have written by then
    stays: a sweep keeps its results by key, and is started again with the same command.
    """

    in_flight: int
    """Pieces that are handed out at once: more than there are workers, so that none of them waits for the next."""

    lost: tuple[type[Exception], ...] = ()
    """What a future raises when the worker was killed."""

    advice: str = ""
    """What a user can do about it."""

    def __init__(
        self, build: Callable[[], S], *, pieces: int, workers: int | None, here: S | None, imports: tuple[str, ...]
    ) -> None:
        self.build, self.pieces, self.workers, self.here, self.imports = build, pieces, workers, here, imports

    @abstractmethod
    def submit(self, work: Work[S, P, R], piece: P) -> Future[Any]:
        """Hand one piece to a worker, which answers as `perform` does, or with the result in a tuple of one."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let the workers go; after an error, without waiting for their pieces."""

    def run(
        self, work: Work[S, P, R], pieces: Iterable[P], *, when_lost: Callable[[DvccError], R] | None = None
    ) -> Iterator[tuple[int, R]]:
        """Yield the number and the result of every piece as it ends, in whatever order.

        when_lost: makes the result of a piece whose worker was killed; None: its error is raised.
        """
        waiting, pending = enumerate(pieces), dict[Future[Any], int]()
        while True:
            for number, piece in islice(waiting, self.in_flight - len(pending)):
                pending[self.submit(work, piece)] = number
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                number = pending.pop(future)
                try:
                    answer = future.result()
                except self.lost as error:
                    told = DvccError(f"a worker was killed, for want of memory perhaps: {self.advice}")
                    if when_lost is None:
                        raise told from error
                    yield number, when_lost(told)
                else:
                    yield number, _result(answer)

    def map(self, work: Work[S, P, R], pieces: Iterable[P], *, advance: Callable[[], object] = lambda: None) -> list[R]:
        """Return the results of all pieces in their order. advance: called as each one ends."""
        results = {}
        for number, result in self.run(work, pieces):
            results[number] = result
            advance()
        return [results[number] for number in sorted(results)]


def _result(answer: Any) -> Any:
    if isinstance(answer, tuple):
        return answer[0]
    ended, result = pickle.loads(answer)
    if not ended:
        raise result
    return result


def given(state: S) -> Callable[[], S]:
    """Return a `build` that hands over a state as it is, pickled."""
    return partial(_same, state)


def _same(state: S) -> S:
    return state


def perform(state: Callable[[], S], work: Work[S, P, R], piece: P) -> bytes:
    """Return (True, the result) or (False, the `DvccError`), pickled in the worker.

    A pool would send every tensor of a result as an open file, and there are thousands. state: returns that of the worker, built
    once; pieces run side by side, so each computes with one thread of torch.
    """
    answer: tuple[bool, Any]
    try:
        held = state()
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)
        answer = True, work(held, piece)
    except DvccError as error:
        answer = False, error
    return pickle.dumps(answer)
