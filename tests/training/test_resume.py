"""A run that stopped goes on to the same next loss, or says why it cannot."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dvcc.config.parse import to_yaml
from dvcc.control import training as control
from dvcc.errors import CheckpointError, ConfigError
from dvcc.surrogate import training as surrogate
from tests.training.conftest import configure, losses


@pytest.mark.parametrize("stage, stop", [("surrogate", 1), ("surrogate", 5), ("control", 3)])
def test_a_resumed_run_has_the_same_next_losses(stage, stop, tiny, trained, tmp_path):
    words = ["trainer.checkpoint_every=1", "trainer.max_steps=7"]
    if stage == "control":
        words += ["task=reconstruction", f"surrogate={trained}"]
    run = {"surrogate": surrogate.run, "control": control.run}[stage]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(configure(stage, tiny, whole, *words))
    _stop_after(run, configure(stage, tiny, parts, *words), steps=stop)  # whose checkpoint is the last
    expected = losses(whole)
    run(configure(stage, tiny, parts, *words, "resume=true"))
    resumed = losses(parts, log="log_resumed_1")
    assert set(resumed) == set(range(stop, 7)) and len(expected) == 7
    for step in resumed:
        assert resumed[step] == pytest.approx(expected[step], rel=1e-5), step
    assert len(set(expected.values())) > 3
    assert stop == 1 or set(losses(parts)) == set(range(stop - 1))  # the first part's log is still there, less its last step


def test_a_finished_run_goes_on_for_longer_with_a_longer_cosine(tiny, tmp_path):
    surrogate.run(configure("surrogate", tiny, tmp_path, "trainer.max_steps=3"))
    surrogate.run(configure("surrogate", tiny, tmp_path, "trainer.max_steps=6", "resume=true"))
    assert set(losses(tmp_path, log="log_resumed_1")) == {3, 4, 5}
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == 6 and state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-5)


class _Interrupted(Exception):
    pass


def _stop_after(run, config, *, steps: int) -> None:
    """As if the machine had gone down in the middle of the run."""
    import lightning as L

    original = L.LightningModule.on_train_batch_end

    def stop(self, *arguments):
        if self.global_step >= steps:
            raise _Interrupted

    L.LightningModule.on_train_batch_end = stop
    try:
        with pytest.raises(_Interrupted):
            run(config)
    finally:
        L.LightningModule.on_train_batch_end = original


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "other model"])
def test_a_bad_checkpoint_to_resume_from_is_named(damage, tiny, trained, tmp_path):
    config = configure("surrogate", tiny, tmp_path, "trainer.max_steps=14", "resume=true")
    content = bytearray((trained.parent / "last.ckpt").read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    elif damage == "other model":
        config = dataclasses.replace(config, surrogate=dataclasses.replace(config.surrogate, width=8))
    if damage != "missing":
        (tmp_path / "last.ckpt").write_bytes(content)
        (tmp_path / "config.yaml").write_text(to_yaml(config))
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        surrogate.run(config)


@pytest.mark.parametrize(
    "word, values",
    [
        ("data.max_clips=1", "data.max_clips is None and not 1"),
        ("data.size=[48,64]", r"data.size is \[64, 96\] and not \[48, 64\]"),
        ("codec.preset=fast", "codec.preset is medium and not fast"),
        ("seed=3", "seed is 0 and not 3"),
    ],
)
def test_other_settings_than_those_of_the_run_are_refused_on_resume(word, values, tiny, trained):
    kept = (trained.parent / "config.yaml").read_text()
    words = ["trainer.max_steps=14", "learning_rate=0.01", "resume=true", word]
    with pytest.raises(ConfigError, match=f"whose {values}.*out=DIR"):
        surrogate.run(configure("surrogate", tiny, trained.parent, *words))
    assert (trained.parent / "config.yaml").read_text() == kept


def test_how_long_and_where_a_run_goes_on_may_change(tiny, tmp_path):
    words = ["surrogate.width=8", "data.max_clips=2", "data.crops_per_clip=1"]
    surrogate.run(configure("surrogate", tiny, tmp_path / "run", *words, "trainer.max_steps=1"))
    words += [
        "trainer.max_steps=2",
        "trainer.gradient_clip_val=1",
        "learning_rate=1e-5",
        "logger.pictures_every=7",
        "resume=true",
    ]
    surrogate.run(configure("surrogate", tiny, tmp_path / "run", *words, f"data.cache={tmp_path / 'cache'}"))
    assert set(losses(tmp_path / "run", log="log_resumed_1")) == {1}
