"""Ray: on the cluster of RAY_ADDRESS, or on one of its own on this machine. It retries, places and spills."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from dvcc._packaged import require
from dvcc.engines.base import Work, Workers, perform
from dvcc.errors import DvccError

S = TypeVar("S")
P = TypeVar("P")
R = TypeVar("R")


_OWN = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
"""Of a cluster of our own: it listens to this machine alone."""


class RayWorkers(Workers[S]):
    """Tasks of Ray, of one CPU each. What a killed worker had is run again by Ray, three times.

    workers: tasks at once. Every machine of a cluster needs dvcc, and the folders of the command at the same place.
    """

    advice = "Ray tried its piece four times; take fewer workers. The same command goes on from here"

    def __enter__(self) -> Self:
        require("ray", wanted_by="the engine ray", extra="ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it tells its makers
        import ray

        self.lost = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.ObjectLostError,
        )
        self._begun = not ray.is_initialized()
        address = os.environ.get("RAY_ADDRESS") or "local"
        joined = not self._begun or address != "local"
        if self._begun:
            own: dict[str, Any] = {} if joined else {"num_cpus": self.workers, **_OWN}
            try:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (ConnectionError, RuntimeError, ValueError) as error:
                why = str(error).splitlines()[0]
                raise DvccError(f"Ray does not begin at {address}: {why}; set RAY_ADDRESS to a cluster, or unset it") from error
        # A cluster has more CPUs than the workers that are wanted; one of our own has as many.
        wanted = self.workers if joined else None
        self.in_flight = wanted or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._task: Any = ray.remote(num_cpus=1)(_perform)
        self._build, self._key = ray.put(self.build), secrets.token_hex(8)
        return self

    def submit(self, work: Work[S, P, R], piece: P) -> Future[Any]:
        """See `Workers.submit`."""
        future: Future[Any] = self._task.remote(self._key, [self._build], work, piece).future()
        return future

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `Workers.__exit__`. What a cluster still works on for us ends with us."""
        if self._begun:
            import ray

            ray.shutdown()


_held: tuple[str, Any] = ("", None)
"""Of a worker process: the key of a sweep, and the state for it."""


def _perform(key: str, build: list[Any], work: Work[S, P, R], piece: P) -> bytes:
    """Run a piece. build: a reference to what makes the state, in a list, so that Ray fetches it only where it is wanted."""

    def state() -> Any:
        global _held
        if _held[0] != key:
            import ray

            made: Callable[[], Any] = ray.get(build[0])
            _held = key, made()
        return _held[1]

    return perform(state, work, piece)
