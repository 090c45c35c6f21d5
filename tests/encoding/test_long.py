"""Long recordings: every picture, at its time, in memory that does not grow."""

import io
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.conftest import make_scene

MEMORY = """
import sys
from pathlib import Path
from dvcc import X264
from dvcc.encoding.file import encode_video
from dvcc.encoding.plan import EncodePlan
from dvcc.media.probe import open_video
from dvcc.rate_control.abr import AverageBitrate

def memory():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024

held = {}
def progress(name, done):
    if done in (600, 1800):
        held[name, done] = memory()
source, out, kbps = sys.argv[1:]
controller = AverageBitrate(X264("ultrafast", gop=60, threads=1))
coded = encode_video(EncodePlan(open_video(source), Path(out), float(kbps), controller), progress=progress)
print(coded.num_frames, coded.damage, *(held[name, 1800] - held[name, 600] for name in ("first pass", "second pass")), sep=";")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process holds")
@pytest.mark.parametrize("moving", [False, True])
def test_thirty_minutes_cost_no_more_memory_than_ten(tmp_path, moving):
    """Of a still picture, and of a scene, at 1 fps, with audio."""
    path, out = tmp_path / "in.mkv", tmp_path / "out.ts"
    repeat(path, make_scene(60, 64, 64), moving=moving)
    ended = subprocess.run([sys.executable, "-c", MEMORY, path, out, "8"], capture_output=True, text=True, check=True)
    frames, damage, *grown = ended.stdout.strip().split(";")
    assert int(frames) == 1800 and not damage and max(map(float, grown)) < 2
    with av.open(str(out)) as container:
        times = sorted(float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size)
        assert len(times) == 1800 and np.diff(times) == pytest.approx(1)
        container.seek(0)
        assert sum(1 for packet in container.demux(audio=0) if packet.size) > 0.99 * 1800 * 8000 / 1024


def repeat(path, clip, *, moving):
    """Thirty minutes: a coded minute at 1 fps with audio, thirty times."""
    minute = io.BytesIO()
    with av.open(minute, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=1, options={"preset": "ultrafast", "qp": "20", "g": "60"})
        video.height, video.width, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("aac", rate=8000, layout="mono")
        for t in range(60):
            picture = clip.frame(t if moving else 0)
            picture.pts, picture.time_base = t, Fraction(1)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        tone = np.sin(np.arange(60 * 8000) / 20).astype(np.float32)[None]
        chunk = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts, chunk.time_base = 8000, 0, Fraction(1, 8000)
        for part in [*av.AudioResampler("fltp", "mono", 8000, frame_size=1024).resample(chunk), None]:
            container.mux(sound.encode(part))
    minute.seek(0)
    with av.open(minute) as source, av.open(str(path), "w") as container:
        streams = [container.add_stream_from_template(stream) for stream in source.streams]
        packets = [(p.stream.index, bytes(p), p.pts, p.dts, p.time_base, p.is_keyframe) for p in source.demux() if p.size]
        for number in range(30):
            for index, data, pts, dts, time_base, is_key in packets:
                packet, shift = av.Packet(data), round(60 * number / time_base)
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, time_base
                packet.is_keyframe, packet.stream = is_key, streams[index]
                container.mux_one(packet)
