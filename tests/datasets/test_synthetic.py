"""The ground truth is checked from outside: by warping pictures and labels with the flow, never against stored numbers."""

import itertools
import pickle
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from dvcc.clip import Clip
from dvcc.datasets.synthetic import SyntheticClips, SyntheticSample
from dvcc.errors import ConfigError

CLIPS = SyntheticClips(num_clips=4, frames=4, size=(128, 208), seed=3)


@pytest.fixture(scope="module")
def samples() -> list[SyntheticSample]:
    return list(CLIPS)


def same(a: SyntheticSample, b: SyntheticSample) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("rgb", "labels", "flow", "visible"))


def targets(flow: Tensor) -> tuple[Tensor, Tensor]:
    """x and y, in the next frame, of every pixel's surface."""
    return torch.arange(flow.shape[3]) + flow[:, 0], torch.arange(flow.shape[2])[:, None] + flow[:, 1]


def psnr_after_warp(sample: SyntheticSample, flow: Tensor, where: Tensor) -> float:
    """Frame t against frame t+1 fetched along the flow, in dB."""
    x, y = targets(flow)
    grid = torch.stack([2 * x / (flow.shape[3] - 1) - 1, 2 * y / (flow.shape[2] - 1) - 1], -1)
    error = grid_sample(sample.rgb[1:].float(), grid, align_corners=True) - sample.rgb[:-1]
    return float(10 * torch.log10(255**2 / error.square().mean(1)[where].mean()))


def test_shapes_types_and_ranges(samples: list[SyntheticSample]) -> None:
    assert len(samples) == len(CLIPS) == 4
    for sample in samples:
        assert (sample.rgb.shape, sample.rgb.dtype) == ((4, 3, 128, 208), torch.uint8)
        assert (sample.labels.shape, sample.labels.dtype) == ((4, 128, 208), torch.int64)
        assert (sample.flow.shape, sample.flow.dtype) == ((3, 2, 128, 208), torch.float32)
        assert (sample.visible.shape, sample.visible.dtype) == ((3, 128, 208), torch.bool)
        classes = set(sample.labels[0].unique().tolist())
        assert classes <= set(range(20))
        assert 3 <= len(classes) <= 12
        assert 0.5 < sample.flow.norm(dim=1).max() < 8  # half the pixels of 256x448, half the speed
        assert 0.9 < sample.visible.float().mean() < 1


def test_clip_has_the_frames_and_the_rate() -> None:
    sample = SyntheticClips(num_clips=1, frames=2, size=(32, 48), fps=Fraction(30000, 1001))[0]
    assert isinstance(sample.clip, Clip)
    assert sample.clip.fps == Fraction(30000, 1001)
    # 4:2:0 keeps the brightness of every pixel and averages the colour of four.
    brightness = [frames.float().mean(1) for frames in (sample.clip.frames, sample.rgb)]
    assert (brightness[0] - brightness[1]).abs().mean() < 2


def test_same_bytes_in_any_order_thread_count_and_copy(samples: list[SyntheticSample]) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        copy = pickle.loads(pickle.dumps(CLIPS))  # what a spawned worker is given
        torch.manual_seed(1)
        assert all(same(copy[i], samples[i]) for i in (3, 0, 2))
    finally:
        torch.set_num_threads(threads)


def test_index_and_seed_make_the_clip(samples: list[SyntheticSample]) -> None:
    other_seed = SyntheticClips(num_clips=1, frames=4, size=(128, 208), seed=4)[0]
    for a, b in itertools.combinations([*samples, other_seed], 2):
        assert not torch.equal(a.rgb, b.rgb)
        assert not torch.equal(a.flow, b.flow)


def test_flow_carries_the_next_frame_back(samples: list[SyntheticSample]) -> None:
    """Over 30 clips of this size: at least 37.0 dB, 4.2 dB above no motion (the slowest clip), 2.3 dB above half a pixel off."""
    for sample in samples:
        exact = psnr_after_warp(sample, sample.flow, sample.visible)
        assert exact > 34
        assert exact > psnr_after_warp(sample, 0 * sample.flow, sample.visible) + 3
        # No shift by half a pixel does as well: the flow is right below a pixel.
        for shift in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
            shifted = sample.flow + torch.tensor(shift).view(2, 1, 1)
            assert exact > psnr_after_warp(sample, shifted, sample.visible) + 1


def test_labels_travel_with_the_flow(samples: list[SyntheticSample]) -> None:
    for sample in samples:
        x, y = (axis.round().long() for axis in targets(sample.flow))
        t = torch.arange(3).view(-1, 1, 1)
        there = sample.labels[1:][t, y.clamp(0, 127), x.clamp(0, 207)]
        labels = sample.labels[:-1, None].float()
        inner = (max_pool2d(labels, 3, 1, 1) == -max_pool2d(-labels, 3, 1, 1))[:, 0]  # no border within a pixel
        agree = (there == sample.labels[:-1])[sample.visible & inner]
        assert agree.float().mean() > 0.99


def test_hidden_points_are_hidden(samples: list[SyntheticSample]) -> None:
    """What lies at the target of a hidden point is another surface. Over 30 clips: hidden below 21.1 dB, visible above 37.0."""
    hidden, visible = [], []
    for sample in samples:
        x, y = targets(sample.flow)
        inside = (x >= 0) & (x <= 207) & (y >= 0) & (y <= 127)
        assert not (sample.visible & ~inside).any()
        hidden.append(psnr_after_warp(sample, sample.flow, inside & ~sample.visible))
        visible.append(psnr_after_warp(sample, sample.flow, sample.visible))
    assert max(hidden) < min(visible) - 10


@pytest.mark.parametrize("settings", [{"frames": 1}, {"size": (16, 16)}, {"num_classes": 5}, {"size": (16, 96), "frames": 20}])
def test_extremes_are_drawn(settings: dict) -> None:
    clips = SyntheticClips(**{"num_clips": 4, "frames": 2, "size": (32, 48), **settings})
    for sample in clips:
        assert sample.flow.shape == (clips.frames - 1, 2, *clips.size)
        assert sample.flow.isfinite().all()
        assert sample.labels.max() < clips.num_classes


def test_index_beyond_the_set() -> None:
    with pytest.raises(IndexError):
        CLIPS[4]


@pytest.mark.parametrize(
    "name, value, hint",
    [
        ("num_clips", 0, "at least 1"),
        ("frames", 0, "at least 1"),
        ("num_classes", 4, "at least 5"),
        ("size", (0, 64), "even and at least 16"),
        ("size", (64, -64), "even and at least 16"),
        ("size", (64, 65), "even and at least 16"),
        ("size", (64, 64, 3), "even and at least 16"),
    ],
)
def test_bad_arguments_say_what_and_how(name: str, value: object, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        SyntheticClips(**{"num_clips": 1, "size": (32, 48), name: value})
    for part in (name, hint, str(value)):
        assert part in str(error.value)
