"""A control on frames that come a few at a time decides what it decides of a clip."""

import math

import numpy as np
import pytest
import torch

from dvcc import units
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.deployed.stream import ControlStream, reduced_planes
from dvcc.control.network import ControlNetwork, reduced
from tests.conftest import make_scene

KBPS = 60.0


def lively():
    torch.manual_seed(0)
    control = ControlNetwork(width=8, gop=4)
    torch.nn.init.normal_(control.head.weight, std=0.3)
    return control.eval()


def planes_of(clip):
    kinds = {"matrix": clip.matrix, "full_range": clip.full_range}
    return np.stack([reduced_planes(clip.y[t], clip.u[t], clip.v[t], **kinds) for t in range(clip.num_frames)])


def stream_of(control, clip, *, gop=4, **how):
    picture = {"height": clip.height, "width": clip.width, "matrix": clip.matrix, "full_range": clip.full_range}
    return ControlStream(deploy(control), KBPS, fps=clip.fps, **picture, gop=gop, **how)


@pytest.mark.parametrize("size", [(64, 96), (66, 98), (70, 110), (80, 84)])
def test_planes_are_reduced_as_their_rgb_is(size):
    clip = make_scene(2, *size)
    expected, planes = reduced(clip.frames[None])[0].numpy(), planes_of(clip)
    assert planes.shape[-2:] == tuple(4 * side for side in units.macroblock_grid(*size))
    height, width = expected.shape[-2:]
    difference = np.abs(planes[..., :height, :width] - expected)
    assert difference.mean() < 0.02 and difference.max() < 0.2  # chroma is not interpolated
    np.testing.assert_array_equal(planes[..., -1], planes[..., min(width, planes.shape[-1]) - 1])


def test_full_range_and_bt709_are_heeded():
    y, u, v = (np.full(shape, value, np.uint8) for shape, value in (((16, 16), 255), ((8, 8), 128), ((8, 8), 128)))
    white = reduced_planes(y, u, v, matrix="bt709", full_range=True)
    np.testing.assert_allclose(white, np.ones((3, 4, 4)), rtol=1e-6)
    assert reduced_planes(y - 20, u, v, matrix="bt709", full_range=False).max() == 1
    red = reduced_planes(np.full_like(y, 63), np.full_like(u, 102), np.full_like(v, 240), matrix="bt709", full_range=False)
    np.testing.assert_allclose(red[:, 0, 0], [1, 0, 0], atol=0.02)  # ITU-R BT.709, limited range


def test_a_gop_at_once_is_what_the_network_says_of_the_clip():
    control, clip = lively(), make_scene(4)
    bpp = units.kbps_to_bits_per_pixel(KBPS, fps=clip.fps, height=clip.height, width=clip.width)
    whole = control.offsets(clip.frames[None], torch.tensor([math.log(bpp)]), gop=4)[0].detach().numpy()
    np.testing.assert_allclose(stream_of(control, clip).decide(planes_of(clip), []), whole, atol=0.3)
    assert np.abs(whole).max() > 1


def test_frames_may_come_one_by_one():
    """But for the prior, which sees less of the video."""
    control, clip = lively(), make_scene(8)
    control.prior.coefficients[1:] = 0
    small = planes_of(clip)
    whole = stream_of(control, clip)
    at_once = np.concatenate([whole.decide(small[i : i + 4], []) for i in (0, 4)])
    stream = stream_of(control, clip)
    one_by_one = np.concatenate([stream.decide(small[t : t + 1], []) for t in range(8)])
    np.testing.assert_allclose(one_by_one, at_once, atol=1e-4)
    np.testing.assert_allclose(at_once.mean((1, 2)), 0, atol=1e-4)


def test_a_turned_video_is_shown_upright():
    control, clip = lively(), make_scene(4, 64, 96)
    small = planes_of(clip)
    upright = stream_of(control, clip).decide(small, [])
    for turns in (1, 2, 3):  # stored turned the other way
        stored = np.rot90(small, -turns, (-2, -1))
        decided = stream_of(control, clip, quarter_turns=turns).decide(stored, [])
        np.testing.assert_allclose(np.rot90(decided, turns, (-2, -1)), upright, atol=1e-4)
