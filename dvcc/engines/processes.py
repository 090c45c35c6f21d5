"""Processes of this machine, by `concurrent.futures`; one worker is this process itself."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from threading import Timer
from types import TracebackType
from typing import Any, Self, TypeVar

from dvcc._processes import cores, fresh_processes
from dvcc.engines.base import Work, Workers, perform
from dvcc.errors import DvccError

S = TypeVar("S")
P = TypeVar("P")
R = TypeVar("R")

GRACE_S = 30
"""How long an interrupted piece may take to remove what it has begun to write."""


class ProcessWorkers(Workers[S]):
    """So many processes, each with a state of its own. What a killed one had is lost, with what the others were given."""

    lost = (BrokenProcessPool,)
    advice = "take fewer workers; the same command goes on from here"

    def __enter__(self) -> Self:
        self._count = min(self.workers or cores(), self.pieces)
        self._pool = self._start() if self._count > 1 else None
        self.in_flight = 2 * self._count if self._count > 1 else 1
        return self

    def _start(self) -> ProcessPoolExecutor:
        context = fresh_processes(__name__, *self.imports)
        return ProcessPoolExecutor(self._count, context, initializer=_begin, initargs=(self.build,))

    def submit(self, work: Work[S, P, R], piece: P) -> Future[Any]:
        """See `Workers.submit`."""
        if self._pool is None:
            return self._run_here(work, piece)
        try:
            return self._pool.submit(_perform, work, piece)
        except BrokenProcessPool:  # and its pieces are accounted for: the others go on in another one
            self._pool = self._start()
            return self._pool.submit(_perform, work, piece)

    def _run_here(self, work: Work[S, P, R], piece: P) -> Future[Any]:
        """Run it at once, with all threads; an interruption is not kept for later."""
        if self.here is None:
            self.here = self.build()
        future: Future[Any] = Future()
        try:
            future.set_result((work(self.here, piece),))
        except DvccError as error:
            future.set_exception(error)
        return future

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `Workers.__exit__`."""
        if self._pool is None:
            return
        late = None
        if kind is not None:
            processes = list((self._pool._processes or {}).values())  # from Python 3.14 on, `terminate_workers`
            for process in processes:
                process.terminate()
            late = Timer(GRACE_S, _kill, (processes,))
            late.start()
        try:
            self._pool.shutdown(cancel_futures=True)
        finally:
            if late is not None:
                late.cancel()


def _kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.kill()


_build: Callable[[], Any] | None = None
_state: Any = None
"""Of a worker process."""


def _begin(build: Callable[[], Any]) -> None:
    """Take what makes the state of a worker. An interruption is answered by the parent, which ends the worker."""
    global _build
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _build = build


def _end(number: int, frame: object) -> None:
    """Leave a piece as an error does, so that it removes what it has begun to write."""
    sys.exit()


def _held() -> Any:
    """Return the state, built by the first piece: what goes wrong with it is told as an error of a piece is."""
    global _state
    if _state is None:
        assert _build is not None
        _state = _build()
    return _state


def _perform(work: Work[S, P, R], piece: P) -> bytes:
    """Run one piece. Only a piece answers SIGTERM: a waiting worker ends at once.

    An exception could leave a waiting worker after it has taken the lock of the pool's queue, and the others would wait for that
    lock for ever. The pool also takes `SystemExit` for the result of a piece, so the worker ends here.
    """
    try:
        signal.signal(signal.SIGTERM, _end)
        try:
            return perform(_held, work, piece)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except SystemExit:
        os._exit(128 + signal.SIGTERM)
