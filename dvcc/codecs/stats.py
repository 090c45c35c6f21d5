"""What an encode came to, counted while its packets pass by."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.video.frame import PictureType

from dvcc.codecs.bitstream import qp_of

if TYPE_CHECKING:
    from dvcc.codecs.ffmpeg import VideoCodec

_FEW = 300  # frames, of which all can be decoded; of more, every so many GOPs are: all would be a tenth of the encode
_EVERY = 8


@dataclass
class EncodeStats:
    """bits: of slices and parameter sets, without the encoder's version text and the container.

    seconds: length of the video. settings: what the encoder says it did. header_bits: of the parameter sets, already in `bits`.
    most_delay: frames that had been read before an earlier one was coded, at most. stopped: ended by the user, not by the source.
    mean_qps: as coded, by frame type, if `qps` is set; where the `codec` does not say them, and more than 300 frames or None are
    `expected`, of every eighth GOP.
    """

    expected: int | None
    codec: VideoCodec
    qps: bool = False

    bits: int = 0
    num_frames: int = 0
    seconds: float = 0.0
    settings: str = ""
    header_bits: int = 0
    most_delay: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        self._bits_of_seconds = array("q")  # a camera may run for weeks
        self._gops, self._sampled, self._reader = 0, False, av.CodecContext.create("h264", "r")
        self._reader.options = {"export_side_data": "venc_params"}
        self._reader.thread_count = 1
        self._qps: dict[str, tuple[float, int]] = {}

    def add(self, packet: av.Packet[Any]) -> None:
        """Count a packet of the encoder."""
        assert packet.pts is not None
        bits = 8 * packet.size
        self.bits += bits
        self.num_frames += 1
        second = max(0, int(packet.pts * packet.time_base))
        self._bits_of_seconds.extend([0] * (second + 1 - len(self._bits_of_seconds)))
        self._bits_of_seconds[second] += bits
        if not self.qps:
            return
        if (type_and_qp := self.codec.mean_qp_of(packet)) is not None:
            self._count(*type_and_qp)
            return
        if self.num_frames == 1:
            self._reader.extradata = packet.stream.codec_context.extradata  # the parameter sets, where a container keeps them
        if packet.is_keyframe:
            self._decode(None)
            self._sampled = (self.expected or _FEW + 1) <= _FEW or self._gops % _EVERY == 0
            self._gops += 1
        self._decode(packet)

    def close(self, *, settings: str, header_bits: int, duration: Fraction) -> None:
        """All packets have passed; duration: of the video, in seconds."""
        self._decode(None)
        self.settings, self.header_bits = settings, header_bits
        self.bits += header_bits
        if self.bits_per_second:
            self._bits_of_seconds[min(self.bits_per_second)] += header_bits
        self.seconds = float(duration)

    @property
    def bits_per_second(self) -> dict[int, int]:
        """Bits by second of the video, of those that have any."""
        return {second: bits for second, bits in enumerate(self._bits_of_seconds) if bits}

    @property
    def bitrate_kbps(self) -> float:
        """Achieved bitrate in kbit/s, over the video's own time."""
        return self.bits / self.seconds / 1000

    @property
    def mean_qps(self) -> dict[str, float]:
        """By frame type, I, P and B."""
        return {kind: self._qps[kind][0] / self._qps[kind][1] for kind in "IPB" if kind in self._qps}

    def _count(self, kind: str, qp: float) -> None:
        total, count = self._qps.get(kind, (0.0, 0))
        self._qps[kind] = (total + qp, count + 1)

    def _decode(self, packet: av.Packet[Any] | None) -> None:
        """Read the QPs of a packet; None: the rest of a GOP."""
        if not self._sampled:
            return
        for frame in self._reader.decode(packet):
            self._count(PictureType(frame.pict_type).name, float(qp_of(frame).mean()))
        if packet is None:
            self._reader.flush_buffers()
