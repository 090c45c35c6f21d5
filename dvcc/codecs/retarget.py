"""An encoder whose bitrate changes while it runs: its buffer is kept, and no picture is lost.

FFmpeg's libx264 takes another bitrate while it is open, and PyAV can set it, but neither the size of the buffer nor the rate of
the channel, which x264 lets follow the bitrate where both were the same. So a small change is made on the open encoder. For a
larger one the encoder is closed, and another is opened at an IDR picture, with what is left of the buffer as its initial
occupancy. Pictures that the old one had not coded yet are coded by the new one. Where more is on its way than the new buffer
holds, less is asked for until it has room, and then one more encoder is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from dvcc.codecs.base import ABR
from dvcc.codecs.encoder import StreamEncoder
from dvcc.media.format import Planes, VideoFormat

if TYPE_CHECKING:
    from dvcc.codecs.ffmpeg import VideoCodec

_SMALL = 0.2  # of the bitrate that the encoder was opened at: within, its buffer may stay as it is
_LEAST_FILL, _MOST_FILL = 0.02, 0.9  # of the buffer, that a new encoder begins with; x264's own default is 0.9
_ROOM = 0.1  # of the buffer, below which less is sent than the channel takes
_LEAST_DRAINED = 0.7  # of the rate, that is asked for then: at less, x264 nearly stops, and takes seconds to come back
_APART = 0.25  # seconds between two encoders: each begins with an IDR picture


class VBVBuffer:
    """How full the decoder's buffer is, in bits, by the packets that were sent: what x264 itself keeps, over all encoders.

    size: in bits. rate: of the channel, bit/s.
    """

    def __init__(self, rate: ABR) -> None:
        assert rate.vbv is not None
        self.rate, self.size = 1000 * rate.vbv[0], 1000 * rate.vbv[1]
        self.fill = _MOST_FILL * self.size

    def change(self, rate: ABR) -> None:
        """Go on with another channel. What is on its way stays there, so that less of a smaller buffer is free."""
        assert rate.vbv is not None
        size = 1000 * rate.vbv[1]
        self.fill += size - self.size
        self.rate, self.size = 1000 * rate.vbv[0], size

    def send(self, bits: int, seconds: float) -> None:
        """Take a packet out, and let in what arrives until the next, `seconds` later."""
        self.fill = min(self.size, self.fill - bits + self.rate * seconds)

    @property
    def has_room(self) -> bool:
        """Whether a picture fits in."""
        return self.fill >= _ROOM * self.size

    def rate_to_drain(self) -> float:
        """Return what to ask of an encoder, kbit/s, so that there is room within the buffer's own length."""
        lacking = max(0.0, _ROOM * self.size - self.fill)
        return self.rate * max(_LEAST_DRAINED, 1 - lacking / self.size) / 1000

    @property
    def share(self) -> float:
        """The initial occupancy of an encoder that goes on from here."""
        return min(_MOST_FILL, max(_LEAST_FILL, self.fill / self.size))


class RetargetedEncoder:
    """The same as a `StreamEncoder` with one pass of `ABR` and a buffer, whose rate is asked for before every frame.

    rate_now: must always give a `vbv`. num_encoders: that were opened so far. Raises as a `StreamEncoder` does.
    """

    def __init__(
        self,
        codec: VideoCodec,
        container: av.container.OutputContainer,
        rate_now: Callable[[], ABR],
        picture: VideoFormat,
        *,
        mapped: bool = False,
    ) -> None:
        self._codec, self._container, self._picture, self._mapped = codec, container, picture, mapped
        self._rate_now = rate_now
        self._rate = self._opened = rate_now()
        self._encoder = self._first = StreamEncoder(codec, container, self._rate, picture, mapped=mapped)
        self._buffer = VBVBuffer(self._rate)
        self._pending: dict[int, tuple[Planes, np.ndarray | None]] = {}  # pictures that are not coded yet, by time
        self._sent, self._dts = -1, -(2**62)  # the last time of presentation, and of decoding, that was sent
        self._frames = 0  # since the encoder was opened
        self._draining = False  # whether it is asked for less than the rate, until the buffer has room
        self.num_encoders = 1

    @property
    def settings(self) -> str:
        """Return what the first encoder that coded anything reports."""
        return self._first.settings or self._encoder.settings

    @property
    def header_bits(self) -> int:
        """Return the header bits of the first encoder, 0 if it coded nothing."""
        return self._first.header_bits

    def encode(self, planes: Planes, pts: int, values: np.ndarray | None = None) -> Iterator[av.Packet[Any]]:
        """See `StreamEncoder.encode`. Packets of pictures that a new encoder has coded may be many at once."""
        self._frames += 1
        if (rate := self._rate_now()) != self._rate:
            yield from self._change(rate)
        if self._draining and self._buffer.has_room:
            yield from self._reopen(self._rate)
        self._pending[pts] = planes, values
        yield from self._taken(self._encoder.encode(planes, pts, values))

    def flush(self) -> Iterator[av.Packet[Any]]:
        """See `StreamEncoder.flush`."""
        yield from self._taken(self._encoder.flush())

    def _change(self, rate: ABR) -> Iterator[av.Packet[Any]]:
        """Go on at another rate, at once where the encoder was not opened a moment ago."""
        small = abs(rate.kbps / self._opened.kbps - 1) <= _SMALL and not self._draining
        if small and self._encoder.set_kbps(rate.kbps):
            self._buffer.change(replace(rate, vbv=(rate.kbps, self._buffer.size / 1000)))
            self._rate = rate
        elif self._frames >= _APART * self._picture.fps:
            yield from self._reopen(rate)

    def _reopen(self, rate: ABR) -> Iterator[av.Packet[Any]]:
        # B frames that are shown before a picture that was sent have to come from the old encoder.
        held_up = {pts for pts in self._pending if pts < self._sent}
        if held_up:
            yield from self._taken(packet for packet in self._encoder.flush() if self._time(packet) in held_up)
        self._encoder.close()
        self._buffer.change(rate)
        self._rate = self._opened = rate
        self._draining = not self._buffer.has_room
        asked = self._buffer.rate_to_drain() if self._draining else rate.kbps
        assert rate.vbv is not None
        rate = replace(rate, kbps=asked, vbv=(asked, rate.vbv[1]), vbv_init=self._buffer.share)
        self._encoder = StreamEncoder(
            self._codec,
            self._container,
            rate,
            self._picture,
            mapped=self._mapped,
            stream=self._first.stream,
        )
        self._frames, self.num_encoders = 0, self.num_encoders + 1
        for pts, (planes, values) in list(self._pending.items()):
            yield from self._taken(self._encoder.encode(planes, pts, values))

    def _taken(self, packets: Iterable[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        for packet in packets:
            assert packet.pts is not None and packet.dts is not None
            time = self._time(packet)
            del self._pending[time]
            packet.dts = min(packet.pts, max(packet.dts, self._dts + 1))  # of a new encoder at uneven times
            self._sent, self._dts = max(self._sent, time), packet.dts
            self._buffer.send(8 * packet.size, float(1 / self._picture.fps))
            yield packet

    def _time(self, packet: av.Packet[Any]) -> int:
        """When it is shown, in units of the pictures' time base."""
        assert packet.pts is not None
        return round(packet.pts * packet.time_base / self._picture.time_base)
