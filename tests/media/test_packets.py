"""Packets that are made here."""

import subprocess
import sys

DECODE = """
import sys
import av
from dvcc.media.packets import packet_of
with av.open(sys.argv[1]) as container:
    parameters = container.streams.video[0].codec_context.extradata
    data = [bytes(packet) for packet in container.demux(video=0) if packet.size]
for _ in range(20):
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata, decoder.thread_type, decoder.thread_count = parameters, "FRAME", 4
    for piece in data:
        decoder.decode(packet_of(piece))
    del decoder  # while its threads work
print(sum(map(len, data)))
"""


def test_a_decoder_with_threads_may_be_left_at_any_time(make_video):
    """Of packets that are Python's memory it hung."""
    path = make_video(frames=30)
    ended = subprocess.run([sys.executable, "-c", DECODE, path], capture_output=True, text=True, timeout=30, check=True)
    assert int(ended.stdout) > 1000
