"""`dvcc encode FOLDER OUT`: every video of a folder, side by side; what is coded already is left as it is.

Either is a folder of this machine, or of storage that all workers reach.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from dvcc import __version__
from dvcc._files import write_atomic
from dvcc._storage import OWN, Folder, open_folder
from dvcc._words import counted
from dvcc.cli import targets
from dvcc.cli.encode_file import encode_file, load_control_of
from dvcc.codecs import VIDEO_CODECS
from dvcc.engines import open_workers
from dvcc.errors import ConfigError, DvccError, TimeLimitError
from dvcc.media.container import LIMITS
from dvcc.media.folders import VIDEO_SUFFIXES
from dvcc.media.output import CONTAINERS

if TYPE_CHECKING:
    from dvcc.control.deployed.runtime import Control
    from dvcc.rate_control.objects import Objects

_NOT_IN_THE_KEY = frozenset(
    ("run", "command", "video", "out", "engine", "workers", "dry_run", "report", "live", "input_format", "clock")
    + ("max_pixels", "max_seconds", "time_limit")
)
_FILES = ("checkpoint", "detector", "zones", "model", "weights")
"""Words that may be the paths of files, whose content decides."""


@dataclass(frozen=True)
class _Piece:
    """A video of the folder, by its path there, and the path of its coded version in OUT."""

    name: str
    coded: str

    @property
    def record(self) -> str:
        """Of what the coded version was made from, and what came out."""
        return f"{OWN}/{self.coded}.json"


@dataclass(frozen=True)
class _Ended:
    """What became of a piece, and what is said of it."""

    state: Literal["coded", "there", "failed"]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """What all videos are coded by; every worker loads the control once."""

    arguments: argparse.Namespace
    controller: str
    checkpoint: Path | None

    @cached_property
    def folder(self) -> Folder:
        return open_folder(self.arguments.video)

    @cached_property
    def out(self) -> Folder:
        return open_folder(self.arguments.out)

    @cached_property
    def control(self) -> Control | Objects | None:
        return load_control_of(self.arguments, self.controller, self.checkpoint)

    @cached_property
    def _words(self) -> list[object]:
        words: dict[str, object] = {k: v for k, v in sorted(vars(self.arguments).items()) if k not in _NOT_IN_THE_KEY}
        words |= _with_files(self.arguments, lambda path: _digest_of(Path(path)))
        control = None if self.checkpoint is None else _digest_of(self.checkpoint)
        return [__version__, self.controller, control, words]

    def key(self, video: Path) -> str:
        """Digest of the content of a video and of all options that its coded version depends on."""
        return hashlib.sha256(repr([*self._words, _digest_of(video)]).encode()).hexdigest()


def _with_files(arguments: argparse.Namespace, change: Callable[[str], str]) -> dict[str, object]:
    """Return the words that may be files, one or several each, those that are files changed."""

    def changed(word: object) -> object:
        if isinstance(word, list):
            return [changed(one) for one in word]
        return change(word) if isinstance(word, str) and os.path.isfile(word) else word

    return {name: changed(getattr(arguments, name)) for name in _FILES}


def encode_folder(arguments: argparse.Namespace, controller: str, checkpoint: Path | None) -> None:
    """Code what the folder has and `out` has not.

    Raises `ConfigError` for words that do not go together, and `DvccError` at the end where a video was not coded.
    """
    folder, out = open_folder(arguments.video), open_folder(arguments.out)
    pieces = _pieces(arguments, folder, out)
    _check(arguments)
    if arguments.dry_run:
        for piece in pieces:
            print(f"{folder}/{piece.name} -> {out}/{piece.coded}")
        return
    out.check_writable()
    words = {**vars(arguments), "threads": arguments.threads or 1}  # videos are side by side, and bytes depend on the threads
    words |= {"video": str(folder), "out": str(out)}  # a worker is elsewhere, so paths are absolute
    words |= _with_files(arguments, os.path.abspath)
    build = partial(_Job, argparse.Namespace(**words), controller, None if checkpoint is None else checkpoint.absolute())
    job = build()
    _ = job.control  # one that cannot be loaded is told once
    teller = _Teller(len(pieces))
    with open_workers(
        arguments.engine or "processes",
        build,
        pieces=len(pieces),
        workers=arguments.workers,
        here=job,
        imports=(__name__, "dvcc.encoding.file"),
    ) as workers:
        for number, ended in workers.run(_code, pieces, when_lost=lambda error: _Ended("failed", (str(error),))):
            teller.tell(pieces[number].name, ended)
    teller.close(arguments.out)


class _Teller:
    """Prints a line for every video that is coded, or is not, with how far it has come."""

    def __init__(self, total: int) -> None:
        self._total, self._began = total, time.monotonic()
        self._states: Counter[str] = Counter()
        self._failed: list[str] = []

    def tell(self, name: str, ended: _Ended) -> None:
        """Print what became of one."""
        self._states[ended.state] += 1
        place = f"{self._states.total()}/{self._total}{self._left()}"
        if ended.state == "failed":
            self._failed.append(name)
            print(f"{place} {name}: not coded: {ended.lines[0]}", file=sys.stderr, flush=True)
        elif ended.state == "coded":
            print(f"{place} {ended.lines[0]}", flush=True)
            for note in ended.lines[1:]:
                print(f"{name}: {note}", file=sys.stderr, flush=True)

    def close(self, out: str) -> None:
        """Print the sums. Raises `DvccError` where a video was not coded."""
        there, coded, failed = self._states["there"], counted(self._states["coded"], "video"), self._failed
        print(f"{out}: {coded} coded{f', {there} there already' if there else ''}, in {time.monotonic() - self._began:.0f} s")
        if failed:
            raise DvccError(
                f"{counted(len(failed), 'video')} of {self._total} {'was' if len(failed) == 1 else 'were'} not coded, "
                f"{', '.join(sorted(failed)[:3])}{' and others' if len(failed) > 3 else ''}: see above; the same command "
                f"codes what is missing"
            )

    def _left(self) -> str:
        """Return the time that is left, in words, once there is something to tell it from."""
        done, rest = self._states["coded"], self._total - self._states.total()
        if not done or not rest:
            return ""
        seconds = (time.monotonic() - self._began) / done * rest
        return f" ({seconds / 60:.0f} min left)" if seconds >= 60 else f" ({seconds:.0f} s left)"


def _check(arguments: argparse.Namespace) -> None:
    """Raise what would be raised for every video, before one is touched."""
    for word in ("input_format", "clock", "report"):
        if getattr(arguments, word):
            raise ConfigError(f"--{word.replace('_', '-')} is not for a folder of videos: leave it out")
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers is at least 1, got {arguments.workers}")
    VIDEO_CODECS[arguments.codec](arguments.preset)
    if arguments.target_size is None:
        targets.target_kbps(arguments)
    else:
        from dvcc.encoding.size import size_of

        size_of(arguments.target_size)


def _pieces(arguments: argparse.Namespace, folder: Folder, out: Folder) -> list[_Piece]:
    """Return the videos of the folder at any depth, by name. Raises `ConfigError` where there is none, or two want one name."""
    if os.path.isfile(arguments.video):
        raise ConfigError(f"{arguments.video} is a video, and {out} takes those of a folder: give a folder, or a file for OUT")
    if os.path.isfile(arguments.out):
        raise ConfigError(
            f"{arguments.out} is a file, and {arguments.video} a folder of videos: give a folder for the coded ones"
        )
    if folder.contains(out):
        raise ConfigError(f"{arguments.out} lies in {arguments.video}, whose videos are coded: write to another folder")
    names = folder.names(VIDEO_SUFFIXES)
    if not names:
        raise ConfigError(f"{arguments.video} has no video ({', '.join(sorted(VIDEO_SUFFIXES))}): give a folder that has some")
    taken: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        coded = str(path if path.suffix.lower() in CONTAINERS else path.with_suffix(".mp4"))
        if coded in taken:
            raise ConfigError(f"{taken[coded]} and {name} would both be coded as {coded}: rename one of them")
        taken[coded] = name
    return [_Piece(name, coded) for coded, name in taken.items()]


def _code(job: _Job, piece: _Piece) -> _Ended:
    """Code one video, unless its coded version is there: the piece of work that workers share."""
    LIMITS.max_pixels, LIMITS.max_seconds = job.arguments.max_pixels, job.arguments.max_seconds  # of this process
    try:
        with job.folder.reading(piece.name) as video:
            key = job.key(video)
            if _is_there(job.out, piece, key):
                return _Ended("there")
            with job.out.writing(piece.coded) as coded, contextlib.redirect_stderr(io.StringIO()) as told:
                words = argparse.Namespace(**{**vars(job.arguments), "video": str(video), "out": str(coded)})
                closing = encode_file(words, job.controller, lambda: job.control)
                digest = _digest_of(coded)
        with job.out.writing(piece.record) as record:
            write_atomic(record, json.dumps({"key": key, "sha256": digest}))
        notes = [line for line in told.getvalue().splitlines() if line.startswith(("note", "damage"))]
        return _Ended("coded", (closing.replace(str(coded), f"{job.out}/{piece.coded}", 1), *notes))
    except TimeLimitError:  # of the whole command
        raise
    except DvccError as error:
        return _Ended("failed", (str(error),))
    except OSError as error:
        return _Ended("failed", (f"{error.strerror or error} ({error.filename or piece.coded})",))
    except Exception as error:  # one video of a million must not end the others
        return _Ended("failed", (f"{type(error).__name__}: {error} (a fault of dvcc: code it alone for the traceback)",))


def _is_there(out: Folder, piece: _Piece, key: str) -> bool:
    """Whether the coded version is there, whole, and of this key. Raises `DvccError` for storage that does not answer."""
    try:
        with out.open(piece.record) as file:
            text = file.read()
        record = json.loads(text)
        if record["key"] != key:
            return False
        with out.open(piece.coded) as file:
            digest = _digest(file)
        return bool(record["sha256"] == digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
