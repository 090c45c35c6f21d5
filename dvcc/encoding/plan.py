"""What is to be done with a video, checked before anything is."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dvcc import units
from dvcc._files import replaced
from dvcc._words import counted
from dvcc.errors import ConfigError
from dvcc.media.container import open_container
from dvcc.media.copied import plan_stream_copy
from dvcc.media.format import VideoFormat
from dvcc.media.output import CONTAINERS, check_output, check_room
from dvcc.media.source import VideoSource
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.analysed import AnalysedControl
from dvcc.rate_control.constant import ConstantQuality
from dvcc.rate_control.learned import LearnedMap
from dvcc.rate_control.objects import Objects

_BYTES_OF_FRAME, _BYTES_OF_MACROBLOCK = 300, 3  # in the encoder's statistics of the first pass, and of the offsets
_LEAST_BPP, _MOST_BPP = 1e-4, 8.0  # no encode is outside


def check_target(source: VideoSource, target_kbps: float) -> None:
    """Raise `ConfigError` for a bitrate that no encode of the video can have."""
    fps, height, width = source.picture.fps, source.picture.height, source.picture.width
    least, most = (units.bits_per_pixel_to_kbps(bpp, fps=fps, height=height, width=width) for bpp in (_LEAST_BPP, _MOST_BPP))
    if not max(1.0, least) <= target_kbps <= most:
        raise ConfigError(f"{target_kbps:g} kbit/s is out of reach of {source}: ask for {max(1.0, least):.0f} to {most:.0f}")


@dataclass(frozen=True)
class EncodePlan:
    """A source, where to, at which bitrate, by which rate controller.

    target_kbps: on average over the video; of `ConstantQuality` the most, infinite where there is none.

    Raises `ConfigError` for a target that no encode can have, or zones of another shape, `ConfigError` or `DvccError` for an
    output that cannot be written.
    """

    source: VideoSource
    out: Path
    target_kbps: float
    controller: AverageBitrate | AnalysedControl | ConstantQuality | LearnedMap

    def __post_init__(self) -> None:
        check_output(self.out, self.source.path)
        if math.isfinite(self.target_kbps):
            check_target(self.source, self.target_kbps)
        if self.objects is not None and self.objects.zones is not None:
            self.objects.zones.check_shape(self.picture, quarter_turns=units.quarter_turns(self.source.rotation))
        self._check_room()

    def _check_room(self) -> None:
        """Where the file says its length, or its size does."""
        picture, frames = self.source.picture, self.source.num_frames or 0
        rows, columns = units.macroblock_grid(picture.height, picture.width)
        kbps = self.target_kbps if math.isfinite(self.target_kbps) else 0.0  # nobody knows
        coded = kbps * 125 * float(frames / picture.fps)
        check_room(self.out.parent, coded, what="the coded video", advice="write elsewhere")
        temporary = Path(tempfile.gettempdir())
        kept = frames * (_BYTES_OF_FRAME + _BYTES_OF_MACROBLOCK * rows * columns)
        check_room(temporary, kept, what="what the passes keep", advice="set TMPDIR to another folder")

    @property
    def picture(self) -> VideoFormat:
        """Return the size, rate and colour of the video."""
        return self.source.picture

    @property
    def gives_map(self) -> bool:
        """Say whether the encoder is given every QP."""
        return isinstance(self.controller, LearnedMap)

    @property
    def passes(self) -> tuple[str, ...]:
        """What will go over the video, in order; a correction only where the target is missed."""
        if self.gives_map:
            return "look", "analysis", "encode", "correction where it is needed"
        if isinstance(self.controller, ConstantQuality):
            return ("encode",)
        both = "first pass", "second pass"
        return both if isinstance(self.controller, AverageBitrate) else (*both, *both)

    @property
    def _control(self) -> str:
        control = self.controller.control
        if control is None:
            return "none"
        reasons = []
        if isinstance(self.controller, AnalysedControl):
            reasons.append(f"by what is lost in the encoder's own encode for {self.controller.reads.name}")
        if self.objects is not None:
            every = self.objects.rule.every(self.picture.height, self.picture.width)
            reasons.append(f"by objects looked for in {'every frame' if every == 1 else f'one frame in {every}'}")
        given = "every QP: those of an analysis encode, plus offsets" if self.gives_map else "offsets on the encoder's own QPs"
        return f"{given}, {' and '.join(reasons)}" if reasons else given

    @property
    def objects(self) -> Objects | None:
        """Return the rule of objects that takes part, None without one."""
        if isinstance(self.controller, (AnalysedControl, LearnedMap)):
            return self.controller.objects
        control = self.controller.control
        return control if isinstance(control, Objects) else None

    @property
    def _target(self) -> str:
        kbps, picture = self.target_kbps, self.picture
        quality = f"CRF {self.controller.crf:g}" if isinstance(self.controller, ConstantQuality) else ""
        if not math.isfinite(kbps):
            return quality
        bpp = units.kbps_to_bits_per_pixel(kbps, fps=picture.fps, height=picture.height, width=picture.width)
        return f"{quality}{', at most ' if quality else ''}{kbps:g} kbit/s, {bpp:.4f} bits per pixel"

    def __str__(self) -> str:
        picture, codec = self.picture, self.controller.codec
        rows, columns = units.macroblock_grid(picture.height, picture.width)
        lines = [
            f"in       {self.source}",
            f"out      {self.out}",
            f"target   {self._target}",
            f"encoder  {codec.name} {codec.preset}, GOP {codec.gop}, {counted(codec.threads, 'thread')}",
            f"control  {self._control}, {rows}x{columns} macroblocks",
            f"passes   {', '.join(self.passes)}",
        ]
        with open_container(self.source.path) as original:
            left = plan_stream_copy(original, self.source, CONTAINERS[self.out.suffix.lower()], self.out.suffix)[1]
        return "\n".join(lines + [f"note     {note}" for note in (*replaced(self.out), *self.source.notes, *left)])
