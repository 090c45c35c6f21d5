"""Reading while the encoder works."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_HELD = 8  # items
_PATIENCE = 0.1  # seconds between two looks at whether anybody still waits


def prefetch(items: Iterator[T], *, wait: bool = True) -> Generator[T]:
    """Yield the same items, made in a thread of their own, a few before they are asked for; what raises there raises here.

    Closing the generator ends the thread, and waits for it unless `wait` is False: one that hangs on a silent camera is a daemon
    and ends with the process.
    """
    made: queue.Queue[Any] = queue.Queue(_HELD)
    stopped = threading.Event()

    def put(item: tuple[str, Any]) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=_PATIENCE)
                return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:  # to the thread that asked
            put(("error", error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stopped.set()
        if wait:
            thread.join()
