"""A trained control that sees an analysis encode: x264's own, as a network reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dvcc._files import open_temporary, temporary_folder
from dvcc.codecs import ABR, X264, VideoCodec
from dvcc.codecs.passes import Destination, Maps, encode
from dvcc.control.analysis import NUM_PLANES, Lost, Reader, analysis_planes
from dvcc.control.deployed.runtime import Control
from dvcc.errors import ConfigError
from dvcc.media.format import Planes, Source
from dvcc.rate_control.base import R, RateController, add_encode_cost, encode_near
from dvcc.rate_control.kept_maps import KeptMaps
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.units import macroblock_grid, quarter_turns

_LOOKS_PER_SECOND = 2
_SHARES = (1.0, 0.985)  # of a target that is asked for twice: another encode at nearly the same rate


@dataclass(frozen=True)
class AnalysedControl(RateController):
    """Two encodes by two-pass ABR.

    The first is x264's alone; a network says where it has lost its answer there, and the control decides the offsets of the
    second. The network reads that, too, and the encode in which it has lost less is kept.

    reader: the network; None: the one that lies beside the control. objects: whose offsets are added to the control's.
    corrected: each of the two as of `AverageBitrate`. checked: false keeps the encode with offsets, whatever the network says
    of it. Raises `ConfigError` when there is no reader, and for objects beside a control that adds to a rule.
    """

    control: Control
    codec: VideoCodec = field(default_factory=X264)
    reader: Reader | None = None
    objects: Objects | None = None
    corrected: bool = False
    checked: bool = True

    def __post_init__(self) -> None:
        refuse_two_rules(self.control, self.objects)
        if self.reader is None:
            reader_of(self.control)

    @property
    def reads(self) -> Reader:
        """Return the network that reads."""
        return self.reader or reader_of(self.control)

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`."""
        reader, codec = self.reads, self.codec
        with temporary_folder() as folder:
            own = Analysis(reader, source, codec.gop, folder / "planes")

            def near(maps: Maps | None, first: Analysis | None = None) -> tuple[R, float]:
                """Return an encode near the target, and how much was lost in it; `first` is shown the uncorrected one."""
                read: list[tuple[R, float]] = []

                def encode_at(kbps: float) -> R:
                    watch = Analysis(reader, source, codec.gop) if first is None or read else first
                    coded = encode(codec, source, ABR(kbps), into, maps, watch=watch)
                    read.append((coded, watch.mean()))
                    return coded

                coded = encode_near(encode_at, target_kbps, corrected=self.corrected)
                return coded, next(lost for one, lost in read if one.bits == coded.bits)

            plain, lost_by_x264 = near(None, own)
            decided = LearnedOffsets(self.control, source, target_kbps, codec, analysis=own.planes(), objects=self.objects)
            coded, lost = near(KeptMaps(decided.generate, source, folder / "offsets"))
        less = lost < lost_by_x264
        if less:
            into.decided = (
                f"{100 * (1 - lost / lost_by_x264):.0f} % less is lost for {reader.name} than in {codec.name}'s own encode"
            )
        elif self.checked:
            into.decided = f"no less is lost for {reader.name} under the control: {codec.name}'s own encode kept"
        return add_encode_cost(coded if less or not self.checked else plain, [plain, coded])


@dataclass(frozen=True)
class CodedTwice(RateController):
    """The rival of `AnalysedControl` at its own cost: x264 alone, twice, and the better encode kept.

    It is asked for the target and for a little less, and the encode is kept in which the network has lost less. What is gained by
    choosing alone is in both.
    """

    reader: Reader
    codec: VideoCodec = field(default_factory=X264)

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`."""
        read: list[tuple[float, R]] = []
        for share in _SHARES:
            watch = Analysis(self.reader, source, self.codec.gop)
            coded = encode(self.codec, source, ABR(share * target_kbps), into, watch=watch)
            read.append((watch.mean(), coded))
        chosen = min(read, key=lambda pair: pair[0])[1]
        return add_encode_cost(chosen, [coded for _, coded in read])


def refuse_two_rules(control: Control, objects: Objects | None) -> None:
    """Raise `ConfigError` where `objects` are to be added to a control that adds to the rule itself."""
    if control.rule is not None and objects is not None:
        raise ConfigError("this control adds to the rule of objects already: leave its detector out, or take another control")


def reader_of(control: Control) -> Reader:
    """Return the network that lies beside a control. Raises `ConfigError` where there is none."""
    if control.reader is None:
        raise ConfigError(
            "this control sees what the network of its task has lost, and that is not beside it: encode by dvcc encode "
            "--task TASK --model NAME, or evaluate it by dvcc evaluate control, with task=NAME"
        )
    return control.reader


class Analysis:
    """What a reader says of an encode while it is made, two looks a second; a `Watch`.

    path: of a file for the planes of every GOP, which would fill the memory; None: only the mean is asked for. A last GOP that is
    too short for a look has those of the one before. Raises `ConfigError` for GOPs that are all too short.
    """

    def __init__(self, reader: Reader, source: Source, gop: int, path: Path | None = None) -> None:
        self._reader, self._source, self._gop, self._path = reader, source, gop, path
        if gop < reader.frames:
            raise ConfigError(f"the task compares {reader.frames} neighbouring frames, and a GOP has {gop}: set gop higher")
        self._every = max(1, round(source.picture.fps / _LOOKS_PER_SECOND))
        self._uncoded: dict[int, Planes] = {}
        self._coded: list[Planes] = []  # of the look that has begun
        self._looks: list[Lost] = []
        self._planes = np.zeros((NUM_PLANES, *macroblock_grid(source.picture.height, source.picture.width)), np.float32)
        self._sum, self._count, self._frames = 0.0, 0, 0

    def uncoded(self, index: int, planes: Planes) -> None:
        """See `Watch.uncoded`."""
        if self._begins(index) or any(self._begins(index - ago) for ago in range(1, self._reader.frames)):
            self._uncoded[index] = planes

    def coded(self, index: int, planes: Planes) -> None:
        """See `Watch.coded`."""
        if index % self._gop == 0:
            self._close_gop()
        self._frames = index + 1
        if index not in self._uncoded:
            return
        self._coded.append(planes)
        if len(self._coded) < self._reader.frames:
            return
        source, first = self._source, index + 1 - self._reader.frames
        look = self._reader.lost(
            [self._uncoded.pop(number) for number in range(first, index + 1)],
            self._coded,
            matrix=source.matrix,
            full_range=source.picture.full_range,
            quarter_turns=quarter_turns(source.rotation),
        )
        self._coded = []
        self._looks.append(look)
        self._sum, self._count = self._sum + float(look.degradation.mean()), self._count + 1

    def _begins(self, index: int) -> bool:
        """Whether a look begins with a frame: the first of a GOP, and then two a second that do not touch."""
        place, every = index % self._gop, max(self._every, self._reader.frames)
        return place % every == 0 and place + self._reader.frames <= self._gop

    def mean(self) -> float:
        """Return the mean degradation over all looks."""
        return self._sum / max(1, self._count)

    def planes(self) -> Iterator[np.ndarray]:
        """Give every frame what a control sees of its GOP, float32 (3, h, w), see `analysis_planes`."""
        assert self._path is not None
        self._close_gop()
        grid = self._planes.shape
        with self._path.open("rb") as file:
            for frame in range(self._frames):
                if frame % self._gop == 0:
                    planes = np.fromfile(file, np.float32, int(np.prod(grid))).reshape(grid)
                yield planes

    def _close_gop(self) -> None:
        if self._path is not None and self._frames:
            if self._looks:
                degradation, log_error = (np.stack(parts) for parts in zip(*self._looks, strict=True))
                self._planes = analysis_planes(degradation, log_error, gop=len(self._looks))[0]
            with open_temporary(self._path, "ab") as file:
                file.write(self._planes.tobytes())
        self._looks, self._coded = [], []
