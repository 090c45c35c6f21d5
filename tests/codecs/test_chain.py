"""Coded twice, and what a file says of how it was coded before."""

import numpy as np
import pytest
import torch
from PIL import Image

from dvcc import CQP, CRF, JPEG, X264, Quality
from dvcc.codecs import Chain, coded_once
from dvcc.codecs.history import jpeg_quality, mean_qp
from dvcc.codecs.plain import PerspectiveX264
from dvcc.rgb_clip import RGBClip
from tests.conftest import make_scene

CLIP = make_scene(frames=2)


def test_the_second_codec_is_given_what_the_first_has_left():
    chain = Chain(X264(), CRF(40), JPEG())
    coded = chain.encode(CLIP, Quality(90))
    by_hand = JPEG().encode(X264().encode(CLIP, CRF(40)).clip(), Quality(90))
    assert coded.bitstream == by_hand.bitstream and coded.bits == by_hand.bits
    assert coded.bits < JPEG().encode(CLIP, Quality(90)).bits  # what is gone is not coded again
    assert repr(chain) != repr(Chain(X264(gop=4), CRF(40), JPEG()))  # half of a cache key


@pytest.mark.parametrize("codec, rate", [(JPEG(), Quality(30)), (X264(), CQP(40))])
def test_a_clip_that_was_coded_is_of_the_same_kind(codec, rate):
    once = coded_once(CLIP, codec, rate)
    assert (once.num_frames, once.height, once.width, once.fps) == (CLIP.num_frames, CLIP.height, CLIP.width, CLIP.fps)
    assert not torch.equal(once.frames, CLIP.frames)
    rgb = coded_once(RGBClip(CLIP.frames, CLIP.fps), PerspectiveX264(pixel_format="yuv444p"), CQP(40))
    assert isinstance(rgb, RGBClip)


@pytest.mark.parametrize("quality", [3, 30, 50, 75, 95])
@pytest.mark.parametrize("grey", [False, True])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality, grey, tmp_path):
    picture = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3).astype(np.uint8))
    (picture.convert("L") if grey else picture).save(tmp_path / "a.jpg", quality=quality)
    assert jpeg_quality(tmp_path / "a.jpg") == quality


def test_what_is_no_jpeg_or_no_h264_says_nothing(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert jpeg_quality(tmp_path / "a.png") is None and jpeg_quality(tmp_path / "b.jpg") is None
    assert mean_qp(tmp_path / "b.jpg") is None


def test_the_qp_of_a_video_is_read_from_its_stream(tmp_path):
    (tmp_path / "a.mp4").write_bytes(X264().encode(make_scene(frames=4), CQP(33)).bitstream)
    assert mean_qp(tmp_path / "a.mp4") == pytest.approx(33, abs=4)  # I frames lie 3 below
