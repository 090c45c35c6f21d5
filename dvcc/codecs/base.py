"""What a codec is given (a clip and a rate) and what it returns (a real bitstream)."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from dvcc import units
from dvcc.clip import Clip
from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP, QPMap, QPOffsets
from dvcc.rgb_clip import RGBClip

if TYPE_CHECKING:
    import torch


def _check_range(owner: str, name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{owner}({name}=...) goes from {low:g} to {high:g}, got {value!r}")


def _check_vbv(owner: str, vbv: tuple[float, float] | None) -> None:
    if vbv is not None and (len(vbv) != 2 or min(vbv) <= 0):
        raise ConfigError(f"{owner}(vbv=...) is (maxrate kbit/s, buffer kbit), both positive, got {vbv!r}")


@dataclass(frozen=True)
class CQP:
    """Constant QP: `qp` for P frames; x264 takes about 3 less for I and 2 more for B frames, and 0 is lossless there."""

    qp: int

    def __post_init__(self) -> None:
        _check_range("CQP", "qp", self.qp, 0, MAX_QP)
        if not isinstance(self.qp, int):
            raise ConfigError(f"CQP(qp=...) is an integer, got {self.qp!r}")


@dataclass(frozen=True)
class CRF:
    """Constant rate factor, 0..51, fractions allowed: constant perceived quality, not a QP.

    offsets: QP offsets on top of what the encoder decides. vbv: (maxrate in kbit/s, buffer size in kbit), which cap it.
    """

    value: float
    offsets: QPOffsets | None = None
    vbv: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_range("CRF", "value", self.value, 0, MAX_QP)
        _check_vbv("CRF", self.vbv)


@dataclass(frozen=True)
class ABR:
    """Average bitrate.

    kbps: target in kbit/s; encoders drop the fraction. passes: 1 or 2. offsets: QP offsets on top of what the encoder decides,
    the same in both passes. vbv: (maxrate in kbit/s, buffer size in kbit), for streams. vbv_init: the share of the buffer that is
    full at the beginning, 0 to 1 (None: the encoder's own).
    """

    kbps: float
    passes: Literal[1, 2] = 2
    offsets: QPOffsets | None = None
    vbv: tuple[float, float] | None = None
    vbv_init: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.kbps < np.inf:
            raise ConfigError(f"ABR(kbps=...) must be at least 1, got {self.kbps!r}: encoders count in whole kbit/s")
        if self.passes not in (1, 2):
            raise ConfigError(f"ABR(passes=...) is 1 or 2, got {self.passes!r}")
        _check_vbv("ABR", self.vbv)
        if self.vbv_init is not None and not (self.vbv is not None and 0 <= self.vbv_init <= 1):
            raise ConfigError(f"ABR(vbv_init=...) is a share of the buffer, 0 to 1, and needs vbv=..., got {self.vbv_init!r}")


@dataclass(frozen=True)
class Quality:
    """JPEG quality of libjpeg, 1 (worst) to 99."""

    quality: int

    def __post_init__(self) -> None:
        _check_range("Quality", "quality", self.quality, 1, 99)


@dataclass(frozen=True)
class Quantizer:
    """The constant quantizer of AV1 and VP9, 0 (finest) to 63, an integer."""

    value: int

    def __post_init__(self) -> None:
        _check_range("Quantizer", "value", self.value, 0, 63)


Rate = QPMap | CQP | CRF | ABR | Quality | Quantizer


@dataclass(frozen=True, eq=False, repr=False)
class EncodedClip:
    """A coded clip.

    bitstream: a playable mp4. bits_per_frame: int64 (T,) in display order: slices and parameter sets, without
    the encoder's version text (x264's 5 kbit would drown a short clip) and without the mp4 container.
    codec: "h264", "hevc", "mjpeg", "av1" or "vp9". settings: what the encoder says it did.
    num_encodes: encoder passes spent to get here.
    """

    bitstream: bytes = field(repr=False)
    bits_per_frame: np.ndarray
    fps: Fraction
    height: int
    width: int
    codec: Literal["h264", "hevc", "mjpeg", "av1", "vp9"]
    settings: str
    requested_qp: QPMap | None = None
    num_encodes: int = 1

    @property
    def num_frames(self) -> int:
        """Return the number of frames, T."""
        return len(self.bits_per_frame)

    @property
    def bits(self) -> int:
        """Return the bits of the whole clip."""
        return int(self.bits_per_frame.sum())

    @property
    def file_bits(self) -> int:
        """Bits of the file with container and settings text; JPEGs are files of their own, and the mp4 around them is ours."""
        return self.bits if self.codec == "mjpeg" else 8 * len(self.bitstream)

    def __repr__(self) -> str:
        size = f"frames={self.num_frames}, size={self.height}x{self.width}"
        return f"EncodedClip({self.codec}, {size}, {self.bitrate_kbps:.1f} kbit/s, num_encodes={self.num_encodes})"

    @property
    def bitrate_kbps(self) -> float:
        """Achieved bitrate in kbit/s."""
        return units.kbps(self.bits, num_frames=self.num_frames, fps=self.fps)

    @property
    def bits_per_pixel(self) -> float:
        """Achieved bits per luma pixel."""
        return units.bits_per_pixel(self.bits, num_frames=self.num_frames, height=self.height, width=self.width)

    @cached_property
    def frames(self) -> torch.Tensor:
        """Decoded RGB, uint8 (T, 3, H, W), by the same conversion as `Clip.frames`."""
        from dvcc.codecs.decode import decode_rgb

        return decode_rgb(self.bitstream, self.codec)

    def clip(self) -> Clip:
        """Return the decoded 4:2:0 planes (not of JPEG). Raises `CodecError` for a damaged bitstream."""
        from dvcc.codecs.decode import decode

        return decode(self.bitstream)

    def realised_qp(self) -> QPMap:
        """QP of every macroblock as coded, read from the bitstream, display order (H.264 only).

        A macroblock without residual carries no QP and shows its predecessor's; I_PCM shows 0. So this is not
        what was requested, even when the encoder obeyed. Raises `CodecError` for another codec.
        """
        from dvcc.codecs.bitstream import inspect_bitstream

        return inspect_bitstream(self.bitstream).realised_qp


class Codec(AbstractBase):
    """A real encoder. Members are frozen dataclasses: their repr is the settings half of every cache key."""

    @abstractmethod
    def encode(self, clip: Clip | RGBClip, rate: Rate) -> EncodedClip:
        """Encode `clip` at `rate`; encoders of 4:2:0 alone take no `RGBClip`.

        Raises `CodecError` if the encoder fails or would not do what was asked.
        """
