"""Random QP maps to train surrogates on: the kinds that a control may come to produce."""

from __future__ import annotations

import numpy as np

from dvcc.clip import Clip
from dvcc.qp import MAX_QP, QPMap
from dvcc.units import macroblock_grid

LOWEST_QP = 10


def _smooth(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise of low spatial frequency, drifting slowly over time; about unit variance."""
    t, h, w = shape
    y, x, time = (np.arange(n)[:, None] / max(h, w) for n in (h, w, t))
    field = np.zeros(shape)
    for _ in range(6):
        fy, fx, ft = rng.normal(0, 1.2, 3)
        phase = rng.uniform(0, 2 * np.pi)
        field += np.sin(2 * np.pi * (fy * y[None] + fx * x.T[None] + ft * time[:, :, None] / 2) + phase)
    return field / np.sqrt(3)


def _blocky(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Every macroblock for itself, the same over time."""
    return np.broadcast_to(rng.normal(0, 1, (1, *shape[1:])), shape)


def _saliency(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """A few rectangles of better quality in a worse surrounding, moving."""
    t, h, w = shape
    field = np.ones(shape)
    for _ in range(rng.integers(1, 4)):
        size = rng.integers(1, [max(2, h // 2), max(2, w // 2)])
        corner, step = rng.uniform(0, [h, w]), rng.normal(0, 0.3, 2)
        for frame in range(t):
            top, left = np.maximum(0, np.rint(corner + frame * step)).astype(int)
            field[frame, top : top + size[0], left : left + size[1]] = -1
    return field


KINDS = {"flat": lambda shape, rng: np.zeros(shape), "smooth": _smooth, "blocky": _blocky, "saliency": _saliency}


def random_map(clip: Clip, rng: np.random.Generator, *, kind: str | None = None) -> QPMap:
    """A map of one of `KINDS` (drawn if None), mean QP between 16 and 46, amplitude up to 8, half of them even."""
    shape = (clip.num_frames, *macroblock_grid(clip.height, clip.width))
    field = KINDS[kind or str(rng.choice(list(KINDS)))](shape, rng)
    values = rng.uniform(16, 46) + rng.uniform(1, 8) * field
    step = int(rng.integers(1, 3))
    return QPMap(np.clip(np.rint(values / step) * step, LOWEST_QP, MAX_QP - MAX_QP % step).astype(int))
