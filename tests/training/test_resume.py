"""A run that stopped goes on to the same next loss, or says why it cannot."""

from __future__ import annotations

import dataclasses
import math
import signal

import pytest
import torch

from dvcc.config.parse import to_yaml
from dvcc.control import training as control
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.weights import load_weights
from dvcc.surrogate import training as surrogate
from dvcc.training.progress import TrainingBar
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
    assert losses(parts) == expected and list(expected) == list(range(7)) and len(set(expected.values())) > 3
    assert losses(parts, term="learning_rate") == losses(whole, term="learning_rate")


def test_a_resume_with_another_max_steps_has_the_schedule_of_a_run_with_that(tiny, tmp_path):
    words = ["data.max_clips=2", "data.crops_per_clip=1", "surrogate.width=8"]
    surrogate.run(configure("surrogate", tiny, tmp_path, *words, "trainer.max_steps=3"))
    surrogate.run(configure("surrogate", tiny, tmp_path, *words, "trainer.max_steps=6", "resume=true"))
    rates = losses(tmp_path, term="learning_rate")
    factors = [0.505 + 0.495 * math.cos(math.pi * step / steps) for step, steps in zip(range(6), [3] * 3 + [6] * 3, strict=True)]
    expected = [1e-3 * factor for factor in factors]
    assert list(rates) == list(range(6)) and list(rates.values()) == pytest.approx(expected, rel=1e-6)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == 6 and state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(expected[-1])
    with pytest.raises(ConfigError, match=r"is at step 6: set trainer\.max_steps to that or more"):
        surrogate.run(configure("surrogate", tiny, tmp_path, *words, "trainer.max_steps=5", "resume=true"))


@pytest.mark.parametrize("every, kept", [(2, r"at step 3, and .*last\.ckpt is kept: .* resume=true"), (9, "before its first")])
def test_an_interrupted_training_says_what_is_kept(every, kept, tiny, tmp_path, monkeypatch):
    def stop(bar, trainer, *rest):
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingBar, "on_train_batch_end", stop)
    words = ["data.max_clips=2", "data.crops_per_clip=1", "surrogate.width=8", f"trainer.checkpoint_every={every}"]
    config = configure("surrogate", tiny, tmp_path, *words, "trainer.max_steps=9")
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt, match=kept):
            surrogate.run(config)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning has it ignored from then on


@pytest.mark.parametrize("stage", ["surrogate", "control"])
def test_a_finished_run_trains_nothing_when_resumed(stage, tiny, trained, tmp_path, capsys):
    run = {"surrogate": surrogate.run, "control": control.run}[stage]
    words = ["trainer.max_steps=2", "data.max_clips=2", "data.crops_per_clip=1", "learning_rate=0.01"]
    words += ["task=reconstruction", f"surrogate={trained}"] if stage == "control" else ["surrogate.width=8"]
    path = run(configure(stage, tiny, tmp_path, *words))
    stored = path.with_suffix(".safetensors")  # beside the .onnx of a control
    weights, rows = load_weights(stored, kind=stage).state, (tmp_path / "metrics.csv").read_text()
    stored.unlink()  # as if the run had been killed just before it wrote them
    assert run(configure(stage, tiny, tmp_path, *words, "resume=true")) == path
    assert "has all of its 2 steps: nothing is trained" in capsys.readouterr().out
    again = load_weights(stored, kind=stage).state
    assert again.keys() == weights.keys() and all(torch.equal(again[name], weights[name]) for name in weights)
    assert (tmp_path / "metrics.csv").read_text() == rows


def test_a_folder_holds_one_run(tiny, trained, tmp_path):
    """Neither its log nor its weights nor its checkpoint are mixed with another's."""
    words = ["data.max_clips=2", "data.crops_per_clip=1", "surrogate.width=8"]
    surrogate.run(configure("surrogate", tiny, tmp_path, *words, "trainer.max_steps=4"))
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    again = [*words, "seed=1", "trainer.max_steps=2"]
    with pytest.raises(ConfigError, match=r"holds a run already .*config\.yaml.*resume=true.*overwrite=true.*out=DIR"):
        surrogate.run(configure("surrogate", tiny, tmp_path, *again))
    with pytest.raises(ConfigError, match="holds a run already"):  # of another stage, too
        control.run(configure("control", tiny, tmp_path, "task=reconstruction", f"surrogate={trained}"))
    with pytest.raises(ConfigError, match="set one of them"):
        surrogate.run(configure("surrogate", tiny, tmp_path, *again, "resume=true", "overwrite=true"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    surrogate.run(configure("surrogate", tiny, tmp_path, *again, "overwrite=true"))
    assert {path.name for path in tmp_path.iterdir()} - {"pictures"} == set(before)  # no last-v1.ckpt
    assert (tmp_path / "notes.txt").read_text() == "mine" and list(losses(tmp_path)) == [0, 1]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    assert "seed: 1" in (tmp_path / "config.yaml").read_text() and "overwrite: false" in (tmp_path / "config.yaml").read_text()


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(tiny, tmp_path):
    words = ["data.max_clips=2", "data.crops_per_clip=1", "surrogate.width=8", "trainer.max_steps=3"]
    config = configure("surrogate", tiny, tmp_path, *words)
    _stop_after(surrogate.run, config, steps=2)
    assert not (tmp_path / "last.ckpt").exists()
    surrogate.run(dataclasses.replace(config, resume=True))
    assert list(losses(tmp_path)) == [0, 1, 2]


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
    assert set(losses(tmp_path / "run")) == {0, 1}
