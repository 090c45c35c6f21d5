"""Random QP maps to train and to judge surrogates on: the kinds that a control may come to produce."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from dvcc.clip import Clip
from dvcc.qp import MAX_QP, QPMap
from dvcc.units import MACROBLOCK, macroblock_grid

LOWEST_QP = 2
"""Below it x264 codes raw macroblocks, and QP 0 is another mode."""

MEAN_QPS = (18, 46)
"""Range of the mean QP of training maps: where controls live."""

_AMPLITUDES = (1.0, 8.0)
_MEAN_TOLERANCE = 0.2

Field = Callable[[Clip, np.random.Generator], np.ndarray]


def _grid(clip: Clip) -> tuple[int, int, int]:
    return (clip.num_frames, *macroblock_grid(clip.height, clip.width))


def _flat(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(_grid(clip))


def _smooth(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Noise of low spatial frequency, drifting slowly over time; about unit variance."""
    t, h, w = _grid(clip)
    y, x, time = (np.arange(n)[:, None] / max(h, w) for n in (h, w, t))
    field = np.zeros((t, h, w))
    for _ in range(6):
        fy, fx, ft = rng.normal(0, 1.2, 3)
        phase = rng.uniform(0, 2 * np.pi)
        field += np.sin(2 * np.pi * (fy * y[None] + fx * x.T[None] + ft * time[:, :, None] / 2) + phase)
    return field / np.sqrt(3)


def _blocky(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Every macroblock for itself, the same over time."""
    t, h, w = _grid(clip)
    return np.broadcast_to(rng.normal(0, 1, (1, h, w)), (t, h, w))


def _saliency(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Return a few rectangles of better quality in a worse surrounding, moving."""
    t, h, w = _grid(clip)
    field = np.ones((t, h, w))
    for _ in range(rng.integers(1, 4)):
        size = rng.integers(1, [max(2, h // 2), max(2, w // 2)])
        corner, step = rng.uniform(0, [h, w]), rng.normal(0, 0.3, 2)
        for frame in range(t):
            top, left = np.maximum(0, np.rint(corner + frame * step)).astype(int)
            field[frame, top : top + size[0], left : left + size[1]] = -1
    return field


def _content(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Return what follows the picture, as adaptive quantisation and any network's map do: log activity, either sign."""
    t, h, w = _grid(clip)
    luma = np.pad(
        clip.y.astype(np.float32), ((0, 0), (0, h * MACROBLOCK - clip.height), (0, w * MACROBLOCK - clip.width)), "edge"
    )
    slopes = np.abs(np.diff(luma, axis=1, prepend=luma[:, :1])) + np.abs(np.diff(luma, axis=2, prepend=luma[:, :, :1]))
    activity = np.log(slopes.reshape(t, h, MACROBLOCK, w, MACROBLOCK).mean((2, 4)) + 0.5)
    field = (activity - activity.mean()) / (activity.std() + 1e-6)
    return rng.choice([-1, 1]) * field + rng.uniform(0, 0.7) * _smooth(clip, rng)


def _frames(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """One level per frame: what a control does that learns which frames the others lean on."""
    t, h, w = _grid(clip)
    return np.broadcast_to(rng.normal(0, 1, (t, 1, 1)), (t, h, w))


def _network(clip: Clip, rng: np.random.Generator) -> np.ndarray:
    """Return what a network on the picture decides whose training has just begun: random convolutions of a reduced picture."""
    _, h, w = _grid(clip)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    x = functional.interpolate(clip.frames.float() / 255 - 0.5, (4 * h, 4 * w), mode="bilinear", antialias=True)
    for channels, size, stride in ((16, 4, 4), (16, 3, 1), (1, 3, 1)):
        weight = torch.randn(channels, x.shape[1], size, size, generator=generator) / (x.shape[1] * size * size) ** 0.5
        x = functional.conv2d(functional.silu(x), weight, stride=stride, padding=(size - stride) // 2)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.std((0, 2, 3), keepdim=True) + 1e-6)
    return x[:, 0].double().numpy()


KINDS: dict[str, Field] = {
    "flat": _flat,
    "smooth": _smooth,
    "blocky": _blocky,
    "saliency": _saliency,
    "content": _content,
    "frames": _frames,
    "network": _network,
}


def random_map(clip: Clip, rng: np.random.Generator, *, mean_qp: float, kind: str | None = None) -> QPMap:
    """Return a map of one of `KINDS` (drawn if None), moved to `mean_qp`; amplitude 1 to 8 QPs, half of the maps even."""
    field = KINDS[kind or str(rng.choice(list(KINDS)))](clip, rng)
    amplitude, even = rng.uniform(*_AMPLITUDES), bool(rng.integers(2))
    qp = map_of_field(field, mean_qp=mean_qp, amplitude=amplitude, step=2 if even else 1)
    if even and abs(qp.values.mean() - mean_qp) > _MEAN_TOLERANCE:  # even QPs alone cannot have this mean
        qp = map_of_field(field, mean_qp=mean_qp, amplitude=amplitude)
    return qp


def map_of_field(field: np.ndarray, *, mean_qp: float, amplitude: float, step: int = 1) -> QPMap:
    """Return `amplitude` x `field` (T, h, w), rounded to multiples of `step` and kept within 2..51.

    A common shift moves it as near to `mean_qp` as it can.
    """
    values = mean_qp + amplitude * (field - field.mean())
    shifts = [0.0, *np.linspace(-1, 1, 33), *np.linspace(-8, 8, 65)]  # far ones, where the range cuts many values off
    candidates = [_rounded(values + shift, step) for shift in shifts]
    return QPMap(min(candidates, key=lambda candidate: abs(candidate.mean() - mean_qp)))


def maps_of_equal_mean(clip: Clip, rng: np.random.Generator, *, mean_qp: float, count: int) -> list[QPMap]:
    """Return `count` maps of one mean QP: the first one flat, the others of random kinds.

    Most are within 0.2, those of two levels within half a QP.
    """
    others = [kind for kind in KINDS if kind != "flat"]
    maps = [random_map(clip, rng, mean_qp=mean_qp, kind="flat")]
    while len(maps) < count:
        maps.append(random_map(clip, rng, mean_qp=mean_qp, kind=str(rng.choice(others))))
    return maps


def jittered(qp: QPMap, rng: np.random.Generator) -> QPMap:
    """Nearly the same map: two macroblocks in five one QP finer or coarser.

    What two such encodes do not share is chance to any predictor.
    """
    return QPMap(np.clip(qp.values + rng.choice([-1, 0, 0, 0, 1], qp.values.shape), LOWEST_QP, MAX_QP))


def _rounded(values: np.ndarray, step: int) -> np.ndarray:
    return np.clip(np.rint(values / step) * step, LOWEST_QP, MAX_QP - MAX_QP % step).astype(int)
