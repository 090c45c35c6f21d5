"""Both stages as a user runs them, on tiny real encodes: they learn, resume to the same loss, and fail in one sentence."""

from __future__ import annotations

import csv

import pytest
import torch
from torch.utils.data import default_collate

from dvcc.config.parse import parse
from dvcc.control import training as control
from dvcc.control.deployed.runtime import load_control
from dvcc.datasets.clips import video_key
from dvcc.errors import CheckpointError, ConfigError, DvccError
from dvcc.networks.weights import Weights, save_weights
from dvcc.surrogate import Prediction, build_surrogate, judged, load_surrogate, predicted, samples
from dvcc.surrogate import training as surrogate
from dvcc.tasks import TASKS, build_task
from tests.training.conftest import configure, losses, samples_of


def test_surrogate_run_leaves_weights_log_config_and_pictures(trained):
    out = trained.parent
    assert len(losses(out)) == 12
    assert {"config.yaml", "versions.txt", "last.ckpt", "surrogate.safetensors"} <= {path.name for path in out.iterdir()}
    assert list((out / "pictures").glob("*.png"))
    _, config = load_surrogate(trained)
    assert config["surrogate"]["qps"] == [16, 26, 36, 46] and config["run"]["seed"] == 0 and "ffmpeg" in config


@pytest.mark.parametrize("name", ["anchored", pytest.param("network", marks=pytest.mark.slow)])
def test_overfitting_one_clip_lowers_the_loss(name, tiny, tmp_path):
    words = ["data.max_clips=1", "data.crops_per_clip=1", "data.groups=2", "trainer.max_steps=80", "learning_rate=0.006"]
    surrogate.run(configure("surrogate", tiny, tmp_path, f"surrogate.name={name}", "surrogate.width=16", *words))
    for term in ("frame_bits", "l1") if name == "network" else ("l1",):  # bits of a tiny grid are nearly right at the start
        values = list(losses(tmp_path, term=term).values())
        assert sum(values[-10:]) < 0.8 * sum(values[:10]), term


def test_every_loss_is_logged_and_can_be_switched_off(tiny, tmp_path):
    terms = ("l1", "ssim", "frequency", "candidates", "error", "frame_bits", "clip_bits", "cv_bits", "cv_task")
    words = ["trainer.max_steps=1", "task=reconstruction", "losses.cv_task=0.3", "data.crops_per_clip=1"]
    surrogate.run(configure("surrogate", tiny, tmp_path / "all", *words))
    logged = {term: losses(tmp_path / "all", term=term)[0] for term in terms}
    weights = parse("train", ["surrogate", *words])[1].losses
    total = sum(getattr(weights, term) * value for term, value in logged.items())
    assert losses(tmp_path / "all")[0] == pytest.approx(total, rel=1e-4) and 0 < logged["cv_task"] <= 1
    off = [f"losses.{term}=0" for term in terms if term != "clip_bits"]
    surrogate.run(configure("surrogate", tiny, tmp_path / "one", *words[:2], *off, "data.crops_per_clip=1"))
    assert losses(tmp_path / "one")[0] == pytest.approx(logged["clip_bits"], rel=1e-4)


def test_l_cv_of_motion_looks_at_frames_in_a_row(tiny, tmp_path, monkeypatch):
    """Of any others there is no motion to tell."""
    asked, original = [], surrogate.SurrogateModule._cv_task
    monkeypatch.setattr(surrogate.SurrogateModule, "_cv_task", lambda *words: asked.append(words[-1]) or original(*words))
    words = ["task=optical_flow", "losses.cv_task=0.3", "losses.cv_frames=3", "surrogate.name=network", "surrogate.width=8"]
    surrogate.run(
        configure("surrogate", tiny, tmp_path, *words, "trainer.max_steps=4", "data.crops_per_clip=1", "data.max_clips=2")
    )
    assert len(asked) == 4 and all(frames in ([0, 1, 2], [1, 2, 3]) for frames in asked)
    assert all(0 < value < 2 for value in losses(tmp_path, term="cv_task").values())


def test_l_cv_of_the_task_compares_each_map_with_itself(tiny, tmp_path, monkeypatch):
    """A surrogate that is the codec leaves no variance: maps must not be matched with each other's frames."""
    config = configure("surrogate", [*tiny, "data.maps_per_clip=5", "data.maps_with_frames=5"], tmp_path)
    samples = samples_of(config, with_maps=True)
    batch = default_collate([samples[0]])
    real = {
        tuple(qp.flatten().tolist()): frames
        for qp, frames in zip(batch["qp"][0][batch["shown"][0]], batch["coded_frames"][0], strict=True)
    }

    class Codec:
        reads_ladder = False

    def predict(maps, shown):
        frames = [real[tuple(qp.flatten().tolist())][shown] for qp in batch["qp"][0, maps]]
        return Prediction(torch.zeros(len(maps), 4), torch.stack(frames).float() / 255)

    module = surrogate.build_module(Codec(), config)
    left = module._cv_task(build_task("reconstruction", model="psnr", weights=None), predict, batch, [0, 2])
    assert float(left) == pytest.approx(0, abs=1e-4)


def test_a_surrogate_can_start_from_another(tiny, trained, tmp_path):
    words = [f"start={trained}", "trainer.max_steps=1", "learning_rate=1e-9"]
    path = surrogate.run(configure("surrogate", tiny, tmp_path, *words))
    before, after = load_surrogate(trained)[0], load_surrogate(path)[0]
    for a, b in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"is the surrogate .*'width': 48"):
        surrogate.run(configure("surrogate", tiny, tmp_path / "other", *words, "surrogate.width=8"))
    with pytest.raises(ConfigError, match=r"imitates another encoder.*set codec\.\*"):
        surrogate.run(configure("surrogate", tiny, tmp_path / "other", *words, "codec.preset=fast"))


def test_a_run_has_seen_the_videos_of_what_it_began_from(tiny, trained, videos, tmp_path):
    """`trained` has seen a and b; the runs that begin from it are of other videos, and must not be judged on these."""
    words = ["trainer.max_steps=1", "data.test=[b.mp4]", "data.exclude=[a.mp4]"]
    begun = surrogate.run(configure("surrogate", tiny, tmp_path / "start", *words, f"start={trained}"))
    of = control.run(configure("control", tiny, tmp_path / "of", *words, "task=reconstruction", f"surrogate={trained}"))
    a, b, test = (video_key(videos / f"{name}.mp4") for name in ("a", "b", "test"))
    assert load_surrogate(begun)[1]["trained_on"] == [a, b, test] == load_control(of).config["trained_on"]


@pytest.mark.parametrize("task", TASKS)
def test_a_control_trains_for_every_task(task, tiny, trained, tmp_path, detector, classifier):
    words = [f"surrogate={trained}", "trainer.max_steps=2"]
    if task == "detection":
        words.append(f"task.weights={detector}")
    path = control.run(configure("control", [f"task={task}", *tiny], tmp_path, *words))
    config = load_control(path).config
    assert config["run"]["task"]["name"] == task and config["control"]["gop"] == 8
    with (tmp_path / "metrics.csv").open() as file:
        logged = set(next(csv.reader(file)))
    assert {"loss", "task", "log_bits_excess", "price", "offset_deviation_in_frame"} <= logged


def test_a_ladder_is_judged_once_per_clip(tiny, trained, tmp_path, monkeypatch):
    asked, original = [], judged.judge_ladder

    def judge(task, sample):
        asked.append(int(sample["clip"]))
        return original(task, sample)

    monkeypatch.setattr(judged, "judge_ladder", judge)
    words = ["task=reconstruction", f"surrogate={trained}", "data.max_clips=3", "data.crops_per_clip=1", "trainer.max_steps=7"]
    words.append(f"data.cache={tmp_path / 'cache'}")  # other tests judge the same clips
    control.run(configure("control", tiny, tmp_path, *words))
    assert sorted(asked) == [0, 1, 2]
    control.run(configure("control", tiny, tmp_path / "again", *words))  # nor in the next run
    control.run(configure("control", tiny, tmp_path / "other", *words, "task.model=ssim", "data.max_clips=2"))
    assert sorted(asked[3:]) == [0, 1]


@pytest.mark.parametrize("name", ["network", "structured"])
def test_a_surrogate_without_a_ladder_teaches_by_the_frames_that_it_predicts(name, tiny, tmp_path, monkeypatch):
    """The task's network looks at them: no ladder is judged, and the loss has a gradient in the offsets."""
    words = ["trainer.max_steps=1", f"surrogate.name={name}", "surrogate.width=8", "data.max_clips=2", "data.crops_per_clip=1"]
    path = surrogate.run(configure("surrogate", tiny, tmp_path / "surrogate", *words))
    monkeypatch.delattr(judged, "judge_ladder")
    seen = []
    monkeypatch.setattr(control.ControlModule, "on_before_optimizer_step", lambda self, _: seen.append(gradients(self.control)))
    words = ["task=reconstruction", f"surrogate={path}", "trainer.max_steps=2", "data.max_clips=2", "data.crops_per_clip=1"]
    load_control(control.run(configure("control", tiny, tmp_path / "control", *words)))
    assert len(seen) == 2 and max(seen) > 0
    assert all(0.5 < value < 2 for value in losses(tmp_path / "control", term="task").values())


def test_a_ladder_that_a_surrogate_predicts_teaches_without_its_encodes(tiny, trained, tmp_path, monkeypatch):
    maker = tmp_path / "maker.safetensors"
    about = {**load_surrogate(trained)[1], "surrogate": {"name": "structured", "qps": [16, 46], "gop": 8, "width": 8}}
    weights = build_surrogate(**about["surrogate"]).state_dict()
    save_weights(maker, Weights("surrogate", about, weights))
    of_another, run = tmp_path / "of_another.safetensors", about["run"]
    other = {**about, "run": {**run, "codec": {**run["codec"], "preset": "fast"}}}
    save_weights(of_another, Weights("surrogate", other, weights))
    asked, original = [], predicted.encode_ladder
    monkeypatch.setattr(predicted, "encode_ladder", lambda *of: asked.append(of[-1]) or original(*of))
    monkeypatch.delattr(samples, "encode_ladder")  # nobody else encodes one
    words = ["task=reconstruction", f"surrogate={trained}", f"ladder={maker}", "data.max_clips=2", "data.crops_per_clip=1"]
    words += ["trainer.max_steps=1", f"data.cache={tmp_path / 'cache'}"]
    path = control.run(configure("control", tiny, tmp_path / "control", *words))
    assert asked and set(asked) == {(46,)}  # the frame types, of the coarsest rung
    assert load_control(path).config["run"]["ladder"] == str(maker)
    for wrong, message in (
        ([f"ladder={trained}"], "reads a ladder itself, and cannot predict one"),
        ([f"surrogate={maker}", f"ladder={maker}", "recipe=surrogate"], "would be read by nobody"),
        (["ladder=none.safetensors"], "no checkpoint at none.safetensors"),
        (["teacher.surrogate=0", "teacher.boxes=1"], "boxes alone need none: leave it out"),
        ([f"ladder={of_another}"], "of_another.safetensors imitates another encoder"),
    ):
        with pytest.raises(DvccError, match=message):
            control.run(configure("control", tiny, tmp_path / "wrong", *words, *wrong))


def gradients(network):
    return max(float(p.grad.abs().max()) for p in network.parameters() if p.grad is not None)


def test_a_control_names_a_missing_or_mismatched_surrogate(tiny, trained, tmp_path):
    with pytest.raises(CheckpointError, match="train one with dvcc train surrogate"):
        control.run(configure("control", tiny, tmp_path, f"surrogate={tmp_path / 'none.safetensors'}"))
    words = [word for word in tiny if not word.startswith("data.rungs")]
    with pytest.raises(ConfigError, match=r"another encoder.*codec"):
        control.run(configure("control", tiny, tmp_path, f"surrogate={trained}", "codec.gop=4"))
    with pytest.raises(ConfigError, match="rungs"):
        control.run(configure("control", [*words, "data.rungs=[16,46]"], tmp_path, f"surrogate={trained}"))
    with pytest.raises(ConfigError, match="no preset 'fastt': choose one of ultrafast, "):  # not another encoder's
        control.run(configure("control", tiny, tmp_path, f"surrogate={trained}", "codec.preset=fastt"))


def test_nan_stops_a_run_before_it_reaches_the_weights(tiny, tmp_path, monkeypatch):
    original = surrogate.frame_losses

    def poisoned(*arguments):
        terms = original(*arguments)
        return terms | {"l1": terms["l1"] * torch.nan}

    monkeypatch.setattr(surrogate, "frame_losses", poisoned)
    with pytest.raises(DvccError, match=r"not finite at step 0 .*l1=nan.*learning_rate"):
        surrogate.run(configure("surrogate", tiny, tmp_path, "trainer.max_steps=3"))
    assert not (tmp_path / "surrogate.safetensors").exists()


def test_weights_and_biases_works_offline(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    surrogate.run(configure("surrogate", tiny, tmp_path / "out", "logger=wandb", "trainer.max_steps=2"))
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*"))


def test_one_training_video_set_held_out_entirely_is_refused(videos, tiny, tmp_path):
    words = [word for word in tiny if not word.startswith(("data.root", "data.test"))]
    with pytest.raises(ConfigError, match="held out"):
        surrogate.run(configure("surrogate", [*words, f"data.root={videos / 'a.mp4'}", "data.test=[a.mp4]"], tmp_path))


@pytest.mark.parametrize("word", ["trainer.accelerator=foo", "trainer.precision=foo", "trainer.devices=0", "trainer.strategy=xx"])
def test_settings_that_lightning_refuses_are_one_sentence(word, tiny, tmp_path):
    with pytest.raises(ConfigError, match="Lightning refuses"):
        surrogate.run(configure("surrogate", tiny, tmp_path, word))
    assert not (tmp_path / "config.yaml").exists()


def test_a_gradient_that_is_not_finite_stops_the_run(tiny, tmp_path, monkeypatch):
    original = surrogate.bits_losses

    def steep(log_bits, coded_bits):
        terms = original(log_bits, coded_bits)
        return terms | {"frame_bits": terms["frame_bits"] + (0 * log_bits.sum()).abs().sqrt()}  # 0 * inf

    monkeypatch.setattr(surrogate, "bits_losses", steep)
    with pytest.raises(DvccError, match="gradient of .* is not finite"):
        surrogate.run(configure("surrogate", tiny, tmp_path, "trainer.max_steps=2"))


def test_a_machine_without_git_is_enough(monkeypatch):
    from dvcc.training import record

    monkeypatch.setenv("PATH", "/nowhere")
    assert record.versions()["commit"] == "unknown"


def test_a_run_that_stops_early_leaves_no_final_weights(tiny, tmp_path, monkeypatch):
    def stop(self, *arguments):
        self.trainer.should_stop = True

    monkeypatch.setattr(surrogate.SurrogateModule, "on_train_batch_end", stop)
    with pytest.raises(DvccError, match="stopped at step 1 of 5"):
        surrogate.run(configure("surrogate", tiny, tmp_path, "trainer.max_steps=5"))
    assert not (tmp_path / "surrogate.safetensors").exists()
