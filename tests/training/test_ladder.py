"""A control learns what the descent on each clip's own judged ladder finds, from the picture alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dvcc.config.build import build_task
from dvcc.control import training as control
from dvcc.control.descent import LARGEST_OFFSET, descend
from dvcc.control.ladder import LadderTeacher
from dvcc.surrogate import load_surrogate
from tests.training.conftest import configure, losses, samples_of


def upper_left_counts(qp):
    """A codec whose loss is that of the upper left quarter alone, and whose bits are everybody's."""
    rows, columns = qp.shape[2] // 2, qp.shape[3] // 2
    return 0.01 * qp[:, :, :rows, :columns].square().mean((1, 2, 3)), 9 - 0.12 * qp.mean((1, 2, 3))


def test_the_descent_spends_where_the_loss_is_at_equal_bits():
    base = torch.tensor([24.0, 36.0]).view(2, 1, 1, 1).expand(2, 3, 4, 6)
    offsets = descend(upper_left_counts, base)
    assert offsets.shape == (2, 4, 6) and offsets.abs().max() <= LARGEST_OFFSET / 2
    torch.testing.assert_close(offsets.mean((1, 2)), torch.zeros(2), atol=1.0, rtol=0)  # but for what the bounds cut off
    assert (offsets[:, :2, :3] == -LARGEST_OFFSET / 2).all() and (offsets[:, 2:] > 0).all() and (offsets[:, :, 3:] > 0).all()
    loss, log_bits = upper_left_counts(base + offsets[:, None])
    loss_of_base, log_bits_of_base = upper_left_counts(base)
    assert (loss < 0.85 * loss_of_base).all() and (log_bits - log_bits_of_base).abs().max() < 0.1


def test_a_control_learns_what_the_ladder_says(tiny, trained, tmp_path):
    words = ["task=reconstruction", f"surrogate={trained}", "teacher.surrogate=0", "teacher.ladder=1", "control.blur_sigma=0"]
    words += ["trainer.max_steps=50", "learning_rate=0.03", f"data.cache={tmp_path}/cache"]
    config = configure("control", [*tiny, "data.crops_per_clip=1", "data.max_clips=2"], tmp_path, *words)
    control.run(replace(config, cache_only=True))
    samples = samples_of(config, baselines=control.BASELINES)
    surrogate, _ = load_surrogate(trained)
    teacher = LadderTeacher(build_task(config.task), surrogate, samples)
    assert all(teacher.is_stored(clip) for clip in range(len(samples.clips))) and not (tmp_path / "config.yaml").exists()
    path = control.run(config)
    told = list(losses(tmp_path, term="ladder").values())
    assert sum(told[-10:]) < 0.6 * sum(told[:10]) and path.is_file()
    # They are another's for another surrogate.
    base = samples.without_pixels(0)["baseline_qp"]
    offsets = teacher.offsets(0, None, base)
    assert offsets.shape == (control.BASELINES, *base.shape[2:]) and offsets.std() > 1
    for parameter in surrogate.parameters():
        parameter.data.add_(0.01)
    with pytest.raises(TypeError):
        LadderTeacher(build_task(config.task), surrogate, samples).offsets(0, None, base)
