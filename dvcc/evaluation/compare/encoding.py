"""Two rate controllers on one stretch at a few rates: real encodes, in a process without torch where no reader needs it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dvcc import units
from dvcc._files import open_temporary
from dvcc._processes import cores, fresh_processes
from dvcc.codecs import X264
from dvcc.control.analysis import Reader
from dvcc.control.deployed.runtime import load_control
from dvcc.errors import DvccError
from dvcc.evaluation.compare.stretch import Stretch
from dvcc.rate_control import Means, RateController, build_rate_controller
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.objects import load_objects

if TYPE_CHECKING:
    from dvcc.tasks.metric import State

CONTROLLERS = ("abr2", "control")
"""Names of the two that are compared."""


@dataclass
class Measured:
    """An encode and what it is worth.

    controller: its name. path: of the coded mp4. bits_per_frame: as in `EncodedClip`. seconds: of wall clock for all its
    `num_encodes`. states, psnr_states: of the task's metric and of PSNR, one of every block (GOP) of the stretch. metric, psnr
    (dB): of the whole. psnr_inside, psnr_outside (dB): where there are objects, and elsewhere; NaN where nobody looked.
    """

    controller: str
    target_kbps: float
    path: Path
    bits_per_frame: np.ndarray
    fps: Fraction
    num_encodes: int
    seconds: float
    states: list[State] = field(default_factory=list)
    psnr_states: list[State] = field(default_factory=list)
    metric: float = float("nan")
    psnr: float = float("nan")
    psnr_inside: float = float("nan")
    psnr_outside: float = float("nan")

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.bits_per_frame)

    @property
    def bitrate_kbps(self) -> float:
        """Achieved bitrate in kbit/s."""
        return units.kbps(int(self.bits_per_frame.sum()), num_frames=self.num_frames, fps=self.fps)


@dataclass(frozen=True)
class Work:
    """What is encoded: a stretch at `targets_kbps`, by two-pass ABR and by `controller`, into files in `folder`.

    checkpoint: of the control, if the controller needs one. gop: frames of a GOP. rule: for `load_objects`, where `controller` is
    objects. reader: returns who reads analysis encodes, in place of the network of the control; None: that one does.
    """

    stretch: Stretch
    targets_kbps: Sequence[float]
    controller: str
    checkpoint: Path | None
    gop: int
    folder: Path
    rule: Mapping[str, Any] = field(default_factory=dict)
    reader: Callable[[], Reader] | None = None


def encode_all(
    stretch: Stretch,
    targets_kbps: Sequence[float],
    controllers: Mapping[str, RateController],
    folder: Path,
    advance: Callable[[], object],
) -> list[Measured]:
    """Every controller at every target, into files in `folder`; `advance` is called after each."""
    measured: list[Measured] = []
    for target in targets_kbps:
        for name, controller in controllers.items():
            began = time.perf_counter()
            coded = controller.encode(stretch, target)
            seconds, path = time.perf_counter() - began, folder / f"{name}-{len(measured)}.mp4"
            with open_temporary(path) as file:
                file.write(coded.bitstream)
            measured.append(Measured(name, target, path, coded.bits_per_frame, coded.fps, coded.num_encodes, seconds))
            advance()
    return measured


def encode_apart(work: Work, advance: Callable[[], object]) -> list[Measured]:
    """Return what `encode_all` makes of the work, in processes of their own, one for each controller where there are two cores.

    `advance` is called after each encode.

    The encoder's pictures and PyTorch are then never in one process, and what the one held is free when the other begins.
    Raises what `encode_all` does, and `DvccError` when a process is killed.
    """
    shares = [(name,) for name in CONTROLLERS] if cores() > 1 else [CONTROLLERS]
    context = fresh_processes(__name__)
    running: dict[Connection, Any] = {}
    measured: list[Measured] = []
    try:
        for names in shares:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(there, work, names), daemon=True)  # type: ignore[attr-defined]
            process.start()
            there.close()
            running[here] = process
        while running:
            for ready in wait(list(running)):
                here = cast(Connection, ready)
                answer = here.recv()
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    advance()
                else:
                    measured += answer
                    running.pop(here).join()
    except EOFError:
        raise DvccError("the process that encodes was killed, for want of memory perhaps: give fewer --seconds") from None
    finally:
        for process in running.values():
            process.terminate()
            process.join()
    return sorted(measured, key=lambda m: (m.target_kbps, CONTROLLERS.index(m.controller)))


def _work(connection: Connection, work: Work, names: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers an interruption, and ends this process
    try:
        control = None if work.checkpoint is None else load_control(work.checkpoint)
        if control is not None and work.reader is not None:
            control.reader = work.reader()
        means = Means(X264(gop=work.gop), control)
        controllers = {name: _controller(name, work, means) for name in names}
        connection.send(encode_all(work.stretch, work.targets_kbps, controllers, work.folder, lambda: connection.send(None)))
    except Exception as error:
        connection.send(error)


def _controller(name: str, work: Work, means: Means) -> RateController:
    if name == "abr2":
        return build_rate_controller("abr2", means)
    if work.rule:
        return AverageBitrate(means.codec, control=load_objects(**work.rule))
    return build_rate_controller(work.controller, means)
