"""The target bitrate of a live stream, which may change while it runs: set from Python, or read again from a file or a FIFO."""

from __future__ import annotations

import os
import select
import stat
from contextlib import suppress
from pathlib import Path

from dvcc.errors import ConfigError

_MOST_BYTES = 65536  # of a file that holds one number


class LiveTarget:
    """A target in kbit/s. Set `target_kbps` while a stream is coded, from any thread: it holds from the next frame on.

    Raises `ConfigError` unless it is a positive number.
    """

    def __init__(self, target_kbps: float) -> None:
        self.target_kbps = target_kbps

    @property
    def target_kbps(self) -> float:
        """What is asked for now, kbit/s."""
        return self._kbps

    @target_kbps.setter
    def target_kbps(self, kbps: float) -> None:
        if not 0 < kbps < float("inf"):
            raise ConfigError(f"a target must be a positive number of kbit/s, got {kbps!r}")
        self._kbps = float(kbps)

    def close(self) -> None:
        """End with the stream."""

    def sentences(self) -> list[str]:
        """Return what was wrong with what it was told, one sentence each."""
        return []


class WrittenTarget(LiveTarget):
    """A target that stands in a file as a number of kbit/s, or is the last line that was written to a FIFO.

    It is looked at whenever it is asked for. What is no positive number, as a file that is being written, changes nothing, and is
    told at the end. Raises `ConfigError` where there is no number at first; a FIFO is waited for.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._wrong, self._last_wrong, self._rest, self._seen = Path(path), 0, "", b"", b""
        try:
            is_fifo = stat.S_ISFIFO(self.path.stat().st_mode)
            # For reading and writing, a FIFO has no end when one writer has gone.
            self._fifo = os.open(self.path, os.O_RDWR | os.O_NONBLOCK) if is_fifo else None
        except OSError as error:
            raise ConfigError(
                f"--target-kbps {path} is no number, and no file that can be read ({error.strerror}): give one of both"
            ) from error
        self._kbps = 0.0
        while self._fifo is not None and not self._kbps:
            select.select([self._fifo], [], [])
            self._look()
        if not self.target_kbps > 0:
            raise ConfigError(f"{path} has to hold a positive number of kbit/s, and holds {self._last_wrong!r}")

    @property
    def target_kbps(self) -> float:
        """What the file says now, kbit/s."""
        self._look()
        return self._kbps

    @target_kbps.setter
    def target_kbps(self, kbps: float) -> None:
        raise ConfigError(f"the target is read from {self.path}: write it there")

    def close(self) -> None:
        """See `LiveTarget.close`."""
        if self._fifo is not None:
            os.close(self._fifo)
            self._fifo = None

    def sentences(self) -> list[str]:
        """See `LiveTarget.sentences`."""
        if not self._wrong:
            return []
        times = "once" if self._wrong == 1 else f"{self._wrong} times"
        return [f"{self.path} held no positive number {times}, the last time {self._last_wrong!r}: the target before was kept"]

    def _look(self) -> None:
        """Take the number that stands there, if it is another than before and is one."""
        text = self._whole() if self._fifo is None else self._last_line(self._fifo)
        if text is None or text == self._seen:
            return
        self._seen = text
        try:
            kbps = float(text)
        except ValueError:
            kbps = 0.0
        if 0 < kbps < float("inf"):
            self._kbps = kbps
        else:
            self._wrong, self._last_wrong = self._wrong + 1, text.decode("utf-8", "replace").strip()[:40]

    def _whole(self) -> bytes | None:
        """Return the content of the file, which may be another file of that name by now; None while there is none."""
        try:
            return self.path.read_bytes()[:_MOST_BYTES]
        except OSError:
            return None

    def _last_line(self, fifo: int) -> bytes | None:
        """Return the last whole line that came through the FIFO since, None if none did."""
        with suppress(BlockingIOError):
            while data := os.read(fifo, _MOST_BYTES):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        written = [line for line in lines if line.strip()]
        self._seen = b""  # the same number may come again
        return written[-1] if written else None


def target_of(word: str) -> LiveTarget:
    """Return the target that a word says: a number, or the path of what holds one. Raises `ConfigError` for neither."""
    try:
        kbps = float(word)
    except ValueError:
        return WrittenTarget(word)
    return LiveTarget(kbps)
