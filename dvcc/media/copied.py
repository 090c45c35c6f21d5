"""Streams that go along with the coded one as they are: which a container takes, and packets that fit nowhere."""

from __future__ import annotations

import errno
import io
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition

from dvcc.media.corrections import Corrections
from dvcc.media.decode import OtherPacket
from dvcc.media.source import VideoSource

OWN_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
"""Tags of the old container, which are not carried over."""

_OTHERS = ((".mkv", "matroska"), (".mov", "mov"))  # PyAV puts no G.711 into the first, which most cameras speak
_IN_TS = ("aac", "aac_latm", "mp2", "mp3", "mp3float", "ac3", "eac3", "dca", "opus", "dvbsub", "dvb_teletext")
_MOST_EARLY = 1  # seconds before the video: audio coders need a start, which players skip
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EPIPE)


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error of a muxer is that nothing more can be written, and not that it refuses a packet."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


class StreamCopy:
    """The other streams of a source on their way into an open container: `add` them, then `fit` and mux their packets.

    A packet that the container would refuse (before the start, not after the one before it, without a time) is left out and
    counted in the corrections.
    """

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections
        self._streams: dict[int, Any] = {}  # by index in the source
        self._filters: dict[int, BitStreamFilterContext] = {}
        self._adts: set[int] = set()  # whose headers nobody looks at again before the muxer
        self._last: dict[int, int] = {}
        self._held_back = 0  # packets that the muxer took, and may still refuse

    def add(self, container: av.container.OutputContainer, stream: Any) -> None:
        """Carry `stream` of the opened source over."""
        copied = container.add_stream_from_template(stream)
        copied.metadata.update(stream.metadata)
        copied.disposition = stream.disposition
        self._streams[stream.index] = copied
        if _is_adts(stream) and container.format.name != "mpegts":
            self._filters[stream.index] = BitStreamFilterContext("aac_adtstoasc", stream)
        elif _is_adts(stream):
            self._adts.add(stream.index)

    def fit(self, other: OtherPacket) -> list[av.Packet]:
        """Return the packet as it is in the new container, with the time that it has there; none if it does not go into it."""
        packet, copied = other.packet, self._streams.get(other.index)
        if copied is None or not packet.size:  # the end of a stream
            return []
        if packet.dts is None or not packet.time_base:
            return self.leave_out(other)
        shift = round(self._corrections.start / Fraction(packet.time_base))
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else max(packet.dts, packet.pts - shift)
        if packet.dts <= self._last.get(other.index, round(-_MOST_EARLY / packet.time_base)):
            return self.leave_out(other)
        if other.index in self._adts and not _begins_adts(bytes(packet)):
            return self.leave_out(other)
        self._last[other.index] = packet.dts
        try:
            packets = self._filters[other.index].filter(packet) if other.index in self._filters else [packet]
        except av.FFmpegError:
            return self.leave_out(other)
        for packet in packets:
            packet.stream = copied
        return packets

    def taken(self) -> None:
        """Note that the muxer has taken a packet, to write it when the other streams are as far."""
        self._held_back += 1

    def refused_later(self) -> bool:
        """Whether an error of the muxer when it is given a packet of the video can be about one that it took before.

        Counts that as left out.
        """
        if not self._held_back:
            return False
        self._held_back -= 1
        self._corrections.left_out["audio"] += 1
        return True

    def leave_out(self, other: OtherPacket) -> list[av.Packet]:
        """Count a packet that does not fit, or that the container refused. Returns what there is instead: nothing."""
        self._corrections.left_out[self._streams[other.index].type] += 1
        return []


def plan_stream_copy(
    original: av.container.InputContainer, source: VideoSource, muxer: str, suffix: str, *, fragmented: bool = False
) -> tuple[list[Any], list[str]]:
    """Return the streams of the opened source that go along with the coded one, and what is left out, one sentence each."""
    carried, notes = [], []
    if source.rotation and muxer == "mpegts":
        notes.append(f"the rotation by {source.rotation} degrees cannot be stored in MPEG-TS: players will not turn it")
    if source.mirrored and muxer == "mpegts":
        notes.append("that players mirror it cannot be stored in MPEG-TS")
    lost = ["tags"] * any(tag.lower() not in OWN_TAGS for tag in original.metadata) + ["chapters"] * bool(original.chapters())
    if lost and muxer == "mpegts":
        notes.append(f"{' and '.join(lost)} cannot be stored in MPEG-TS and are left out")
    for stream in original.streams:
        name = stream.codec_context.name if getattr(stream, "codec_context", None) else "unknown"
        if stream.type in ("audio", "subtitle"):
            if isinstance(stream, av.AudioStream) and not stream.codec_context.sample_rate:
                notes.append(f"{stream.type} ({name}) does not begin with the video, so that nothing is known of it: left out")
            elif _carries(muxer, stream):
                carried.append(stream)
            else:
                takers = [] if fragmented else [suffix for suffix, other in _OTHERS if _carries(other, stream)]
                advice = f": {takers[0]} takes it" if takers else ""
                notes.append(f"{stream.type} ({name}) cannot be stored in {suffix or 'MPEG-TS'} and is left out{advice}")
        elif stream.type != "video" and not (stream.type == "data" and original.chapters()):  # where an mp4 keeps them
            notes.append(f"stream {stream.index} ({stream.type}) is left out")
        elif stream.type == "video" and stream.disposition & Disposition.attached_pic:
            notes.append("the cover picture is left out")
    return carried, notes


def _is_adts(stream: Any) -> bool:
    """Whether it is AAC with a header on every packet, as in MPEG-TS, and not one for all as in most containers."""
    return stream.type == "audio" and stream.codec_context.name == "aac" and not stream.codec_context.extradata


def _begins_adts(packet: bytes) -> bool:
    """Return whether a packet begins with the header that MPEG-TS wants.

    After a loss it may not, and a muxer that holds packets back says so when it is given one of the video.
    """
    return len(packet) > 7 and packet[0] == 0xFF and packet[1] & 0xF6 == 0xF0


def _carries(muxer: str, stream: Any) -> bool:
    """Whether the muxer takes such packets: it says so when it writes its header, and FFmpeg's lists do not.

    MPEG-TS takes anything, and what it has no name for nobody can read again.
    """
    name = stream.codec_context.name if stream.codec_context else "unknown"
    if muxer == "mpegts":
        return name in _IN_TS
    if muxer == "mp4" and name.startswith("pcm_"):
        return False  # it takes the header, and then no packet of more than one channel
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True
