"""Encoders at one constant level: 4:2:0 and 4:4:4, odd sizes, sizes with and without container, refusals."""

from __future__ import annotations

import os

import pytest
import torch

from dvcc import CQP, JPEG, X264, CodecError, ConfigError, Quality
from dvcc.codecs import PLAIN, Quantizer, plain
from dvcc.codecs.plain import PerspectiveX264
from dvcc.rgb_clip import RGBClip
from tests.conftest import make_scene

KINDS = {"x264": CQP, "x265": CQP, "av1": Quantizer, "vp9": Quantizer}
CASES = [(name, pixel_format) for name, codec in PLAIN.items() for pixel_format in codec.formats]


def rgb_clip(height: int = 65, width: int = 99) -> RGBClip:
    """Colours that change from pixel to pixel, of odd size."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = [torch.stack([(x * 2 + t) % 256, (y * 3) % 256, ((x + y) * 5 + t) % 256]) for t in range(3)]
    return RGBClip(torch.stack(frames).to(torch.uint8), 25)


@pytest.mark.parametrize("name, pixel_format", CASES)
def test_coarser_means_fewer_bits_and_a_larger_error_in_every_pixel_format(name, pixel_format):
    clip = rgb_clip() if pixel_format == "yuv444p" else make_scene(frames=3, height=64, width=96)
    coded = [PLAIN[name](pixel_format=pixel_format).encode(clip, KINDS[name](quality)) for quality in (10, 45)]
    errors = [float((encode.frames.float() - clip.frames.float()).square().mean()) for encode in coded]
    assert coded[0].frames.shape == clip.frames.shape
    assert coded[0].bits > coded[1].bits > 0 and errors[0] < errors[1]
    for encode in coded:
        assert encode.bits < encode.file_bits == 8 * len(encode.bitstream)
        assert len(encode.bits_per_frame) == 3 and (encode.bits_per_frame > 0).all()
    assert PLAIN[name](pixel_format=pixel_format).encode(clip, KINDS[name](45)).bitstream == coded[1].bitstream


def test_the_papers_command_in_420_is_x264_with_its_settings():
    clip = make_scene(frames=8, height=64, width=96)
    plain, ours = PerspectiveX264().encode(clip, CQP(30)), X264.perspective().encode(clip, CQP(30))
    assert torch.equal(plain.frames, ours.frames)
    assert abs(plain.bits - ours.bits) <= 0.02 * ours.bits


def test_qp_0_of_the_papers_command_loses_rounding_of_colours_alone():
    clip = rgb_clip()
    coded = PerspectiveX264(pixel_format="yuv444p").encode(clip, CQP(0))
    assert int((coded.frames.int() - clip.frames.int()).abs().max()) <= 3


def test_jpegs_options_change_the_bits_and_no_pixel():
    clip = rgb_clip()
    plain, optimised, progressive = (
        codec.encode(clip, Quality(50)) for codec in (JPEG(), JPEG(optimised=True), JPEG(progressive=True))
    )
    assert optimised.bits < plain.bits and progressive.bits != plain.bits and plain.file_bits == plain.bits
    assert torch.equal(optimised.frames, plain.frames) and torch.equal(progressive.frames, plain.frames)


def test_what_cannot_be_coded_is_refused_in_a_sentence(monkeypatch):
    with pytest.raises(CodecError, match="4:2:0 has no odd sizes, got 65x99: take pixel_format=yuv444p"):
        PLAIN["x264"]().encode(rgb_clip(), CQP(20))
    with pytest.raises(CodecError, match="X264 codes 4:2:0, not RGBClip"):
        X264().encode(rgb_clip(), CQP(20))
    with pytest.raises(CodecError, match=r"takes Quantizer as rate, not CQP\(qp=20\)"):
        PLAIN["vp9"]().encode(make_scene(), CQP(20))
    with pytest.raises(CodecError, match="begin at Quantizer"):
        PLAIN["av1"]().encode(make_scene(), Quantizer(0))
    with pytest.raises(ConfigError, match="libsvtav1 codes yuv420p, not yuv444p"):
        PLAIN["av1"](pixel_format="yuv444p")
    monkeypatch.setattr("av.codecs_available", {"libx264"})
    with pytest.raises(ConfigError, match="this FFmpeg comes without libvpx-vp9: choose another codec"):
        PLAIN["vp9"]()


def test_the_process_keeps_its_priority(monkeypatch):
    """SVT-AV1 takes another, whether or not its encode ends well."""
    before = os.sched_getscheduler(0)
    PLAIN["av1"]().encode(make_scene(), Quantizer(40))
    assert os.sched_getscheduler(0) == before
    monkeypatch.setattr(plain, "_frames", lambda *_: [None, None])  # a frame after the last one
    with pytest.raises((CodecError, EOFError)):
        PLAIN["av1"]().encode(make_scene(), Quantizer(40))
    assert os.sched_getscheduler(0) == before
