"""Where independent pieces of work run: processes of this machine, or Ray. A member is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dvcc.engines.base import Workers, given
from dvcc.engines.processes import ProcessWorkers
from dvcc.engines.ray import RayWorkers
from dvcc.errors import ConfigError

S = TypeVar("S")

ENGINES: dict[str, type[Workers]] = {"processes": ProcessWorkers, "ray": RayWorkers}


def check_engine(name: str) -> None:
    """Raise `ConfigError` for an engine that there is not."""
    if name not in ENGINES:
        raise ConfigError(f"there is no engine {name!r}: choose {' or '.join(ENGINES)}")


def open_workers(
    engine: str,
    build: Callable[[], S],
    *,
    pieces: int,
    workers: int | None = None,
    here: S | None = None,
    imports: tuple[str, ...] = (),
) -> Workers[S]:
    """Return workers for so many `pieces`, to be used in a `with`.

    build: makes the state that every worker has for itself; it is pickled. workers: how many; None: one for each core, of this
    machine or of the cluster. here: a state that exists, for one worker in this process. imports: modules that new processes
    import once for all of them.
    """
    return ENGINES[engine](build, pieces=pieces, workers=workers, here=here, imports=imports)


__all__ = ["ENGINES", "Workers", "check_engine", "given", "open_workers"]
