"""What the structured surrogate decides as x264 does: where a frame is coded from itself, and which levels are dropped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264
from dvcc.codecs.cache import EncodeCache
from dvcc.surrogate import build_surrogate
from dvcc.surrogate.samples import LadderSamples
from dvcc.surrogate.structured.planes import ResidualCoder
from dvcc.surrogate.structured.transform import basis
from dvcc.surrogate.transform import quantizer_step
from tests.conftest import make_scene


@pytest.fixture(scope="module")
def after_a_cut(tmp_path_factory):
    """Four frames, the last two of another scene, and their analysis."""
    first, second = (make_scene(frames=4, height=96, width=160, seed=seed) for seed in (3, 9))
    planes = {name: np.concatenate([getattr(first, name)[:2], getattr(second, name)[2:]]) for name in "yuv"}
    cache = EncodeCache(tmp_path_factory.mktemp("cut"))
    samples = LadderSamples([replace(first, **planes)], codec=X264(), cache=cache, qps=(26, 46))
    surrogate = build_surrogate("structured", qps=(26, 46), gop=8, width=8).eval()
    sample = default_collate([samples[0]])
    assert sample["frame_types"].tolist() == [[0, 2, 2, 1]]
    return surrogate, surrogate.analyse(sample)


@pytest.mark.parametrize("qp", [24.0, 32.0, 40.0])
def test_what_no_other_frame_shows_is_predicted_from_the_own_at_every_qp(after_a_cut, qp):
    """x264 codes 58, 57 and 52 % of the macroblocks of this P frame so, by the motion vectors that its decoder exports."""
    surrogate, analysis = after_a_cut
    counted, _ = surrogate.layers(analysis, torch.full((1, 4, 6, 10), qp), shown=[])
    shares = counted.intra.mean((1, 2))
    assert shares[0] == 1 and shares[3] > 0.5
    assert shares[1:3].max() < 0.1  # these two have a reference each


def test_a_level_alone_is_dropped_sooner_than_among_others():
    coder, qp = ResidualCoder(), torch.full((1, 1, 1), 28.0)
    lone, rows, step = torch.zeros(64), basis(8).float(), float(quantizer_step(torch.tensor(28.0)))
    lone[10] = 0.8
    among = lone.clone()
    among[:40:3] = 4.0
    levels = []
    for steps in (lone, among):
        residual = (step * steps @ rows).view(8, 8).repeat(2, 2)[None]
        coded = coder.luma(residual, qp, torch.tensor([1]), 0 * qp, torch.full((1, 1, 1), 8))
        levels.append(float(rows[10] @ coded.plane[0, :8, :8].flatten()) / step)
    assert levels == pytest.approx([0, 1], abs=1e-4)
