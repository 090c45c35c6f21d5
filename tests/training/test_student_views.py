"""Views are real encodes where they say so, and as large as asked for."""

from __future__ import annotations

import pytest
import torch

from dvcc import CQP, X264, Clip
from dvcc.pretraining import student_views
from tests.conftest import make_scene


def test_coded_views_are_real_encodes():
    frames = make_scene(frames=4).frames
    coded = student_views.recode(frames, qp=40)
    expected = X264(preset="veryfast", bframes=0).encode(Clip.from_rgb(frames, 25), CQP(40)).frames
    assert torch.equal(coded, expected) and not torch.equal(coded, frames)
    assert (student_views.recode(frames, qp=20).float() - frames.float()).abs().mean() < (
        coded.float() - frames.float()
    ).abs().mean()


@pytest.mark.parametrize("mosaic_share", [0.0, 1.0])
def test_a_mosaic_shows_four_pictures(mosaic_share, monkeypatch):
    """Four videos of one grey level each; of a mosaic every corner may be another, of a plain view it is the same."""
    monkeypatch.setattr(student_views, "CODED_SHARE", 0.0)
    monkeypatch.setattr(student_views, "PASTED_SHARE", 0.0)
    torch.manual_seed(0)
    runs = [[torch.full((4, 3, 40, 60), grey, dtype=torch.uint8)] for grey in (10, 80, 150, 220)]
    views = [student_views.render_view(runs, chances=torch.ones(4), size=(32, 48), mosaic_share=mosaic_share) for _ in range(8)]
    assert all(view.shape == (3, 32, 48) and view.dtype == torch.uint8 for view in views)
    corners = torch.stack([view.float().mean(0)[[0, 0, -1, -1], [0, -1, 0, -1]] for view in views])
    differ = corners.amax(1) - corners.amin(1) > 20
    assert differ.any() == (mosaic_share > 0)
