"""Views are real encodes where they say so, and as large as asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dvcc import CQP, X264, Clip
from dvcc.pretraining import student_views
from dvcc.pretraining.student_views import Coding
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
    monkeypatch.setattr(student_views, "PASTED_SHARE", 0.0)
    torch.manual_seed(0)
    runs = [[torch.full((4, 3, 40, 60), grey, dtype=torch.uint8)] for grey in (10, 80, 150, 220)]
    options = {"chances": torch.ones(4), "size": (32, 48), "mosaic_share": mosaic_share, "coding": Coding(share=0.0)}
    views = [student_views.render_view(runs, **options).shown for _ in range(8)]
    assert all(view.shape == (3, 32, 48) and view.dtype == torch.uint8 for view in views)
    corners = torch.stack([view.float().mean(0)[[0, 0, -1, -1], [0, -1, 0, -1]] for view in views])
    differ = corners.amax(1) - corners.amin(1) > 20
    assert differ.any() == (mosaic_share > 0)


@pytest.mark.parametrize("codec", ["x264", "jpeg"])
@pytest.mark.parametrize("robust", [False, True])
def test_of_a_robust_view_the_teacher_sees_what_was_coded(codec, robust):
    """And of others what the student sees: its reaction to coding is what is imitated."""
    torch.manual_seed(3)
    runs = [[make_scene(frames=4).frames]]
    options = {"chances": torch.ones(1), "size": (64, 96)}
    for _ in range(3):
        shown, asked = student_views.render_view(runs, **options, coding=Coding(1.0, (codec,), robust))
        assert shown.shape == asked.shape == (3, 64, 96)
        assert torch.equal(shown, asked) != robust
        if robust:  # the same picture
            assert 0 < (shown.float() - asked.float()).abs().mean() < 25
    shown, asked = student_views.render_view(runs, **options, coding=Coding(0.0, (codec,), robust))
    assert torch.equal(shown, asked)


def test_views_are_labelled_by_what_the_teacher_is_asked_about(monkeypatch):
    monkeypatch.setattr(student_views, "VIEW_SIZES", ((64, 96),))
    teacher = SimpleNamespace(mosaic_share=0.0, label=lambda views: views.float().mean((2, 3)))
    rendered, original = [], student_views.render_view
    monkeypatch.setattr(student_views, "render_view", lambda *a, **b: rendered.append(original(*a, **b)) or rendered[-1])
    runs, coding = [[make_scene(frames=4).frames]], Coding(1.0, ("jpeg",), robust=True)
    views = student_views.LabelledViews(teacher, runs, chances=torch.ones(1), count=8, coding=coding)
    for (shown, label), view in zip(views, rendered, strict=True):
        assert torch.equal(shown, view.shown) and torch.equal(label, view.asked.float().mean((1, 2)))
        assert not torch.equal(label, view.shown.float().mean((1, 2)))
