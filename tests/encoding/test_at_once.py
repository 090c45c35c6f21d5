"""Two runs at once do not spoil each other's file, or the cache that they share."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import av
import av.logging
import numpy as np

from dvcc import ABR, X264
from dvcc.codecs.cache import EncodeCache
from dvcc.codecs.encoder import complaints
from dvcc.encoding.file import encode_video
from dvcc.encoding.plan import EncodePlan
from dvcc.media.probe import open_video
from dvcc.rate_control.abr import AverageBitrate
from tests.conftest import make_scene


def test_into_one_file(make_video, tmp_path):
    source, out = open_video(make_video("in.mkv", frames=40, audio="aac")), tmp_path / "out.mp4"
    plans = [EncodePlan(source, out, kbps, AverageBitrate(X264("ultrafast", gop=20))) for kbps in (60, 200)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(encode_video, plans))
    with av.open(str(out)) as container:
        bits = sum(8 * packet.size for packet in container.demux(video=0))
    assert min(abs(bits / result.bits - 1) for result in results) < 0.1  # the one that ended last, whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mp4"]


def test_into_one_cache(tmp_path):
    clip = make_scene(12, 64, 96)
    codec = X264("ultrafast", cache=EncodeCache(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        coded = list(pool.map(partial(codec.encode, clip), [ABR(80), ABR(80), ABR(120), ABR(80)]))
    first, second, other, third = (encode.bits_per_frame for encode in coded)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert other.sum() > first.sum() and len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    assert codec.encode(clip, ABR(80)).bitstream == coded[0].bitstream
    narrow, wide = (codec.encode(clip, ABR(80, passes=1, vbv=(80, 40), vbv_init=share)) for share in (0.1, 0.9))
    assert narrow.bits < wide.bits  # each from its own entry


def test_what_the_encoder_says_of_options_and_the_log_is_off_again():
    """With the log on, a decoder that is closed while one of its threads logs waits for it for ever."""
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda n: complaints("libx264", (("x264-params", f"nonsense{n}=1"),)), range(24)))
    assert all(len(lines) == 1 and f"nonsense{n}" in lines[0] for n, lines in enumerate(said))
    assert av.logging.get_level() is None
