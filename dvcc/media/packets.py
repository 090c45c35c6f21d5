"""Times of packets in seconds."""

from __future__ import annotations

import av


def time_of(packet: av.Packet) -> float | None:
    """Return the time in seconds that rises from packet to packet."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None or not packet.time_base else float(stamp * packet.time_base)


def duration_of(packet: av.Packet) -> float:
    """Seconds, 0 where nothing says them."""
    if packet.duration and packet.time_base:
        return float(packet.duration * packet.time_base)
    context = packet.stream.codec_context if isinstance(packet.stream, av.AudioStream) else None
    return context.frame_size / context.sample_rate if context is not None and context.frame_size and context.sample_rate else 0.0


def end_of(packet: av.Packet) -> float | None:
    """Return the time in seconds, as stored, at which what it holds has been shown."""
    stamp = packet.dts if packet.pts is None else packet.pts
    return None if stamp is None or not packet.time_base else float((stamp + (packet.duration or 0)) * packet.time_base)


def move(packet: av.Packet, offset: float) -> None:
    """Add `offset` in seconds to its times, as far as it has any."""
    if offset and packet.time_base:
        ticks = round(offset / float(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def set_time(packet: av.Packet, seconds: float) -> None:
    """Let it be decoded and shown at `seconds`."""
    packet.dts = packet.pts = round(seconds / float(packet.time_base or 1))


def drop_times(packet: av.Packet, *, last: float, reordering: float) -> None:
    """Leave an outlier no time of decoding, and none of presentation unless that is within `reordering` seconds of `last`."""
    packet.dts = None
    if packet.pts is not None and packet.time_base and abs(float(packet.pts * packet.time_base) - last) > reordering:
        packet.pts = None


def packet_of(data: bytes) -> av.Packet:
    """Return a packet of `data`, without times.

    PyAV's own packet of bytes is Python's memory: a thread of a decoder that frees it waits for Python, which may be waiting for
    the decoder.
    """
    packet = av.Packet(len(data))
    packet.update(data)
    return packet


def to_be_shown(packet: av.Packet) -> av.Packet:
    """Return the same packet without the mark that its picture is not to be shown."""
    copy = packet_of(bytes(packet))
    copy.pts, copy.dts, copy.duration, copy.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
    copy.stream, copy.is_keyframe = packet.stream, packet.is_keyframe
    return copy
