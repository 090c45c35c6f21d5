"""The structured surrogate as `train.py surrogate` fits it: its layers once, then what is learned."""

import pytest
import torch
from torch.utils.data import default_collate

from dvcc.codecs import X264
from dvcc.config.build import build_surrogate_clips, ladder_settings, map_settings
from dvcc.errors import ConfigError
from dvcc.surrogate import load_surrogate, one_hot_qp, training
from dvcc.surrogate.data import build_samples
from dvcc.surrogate.structured.layers import LayerSamples
from dvcc.surrogate.structured.model import StructuredSurrogate
from dvcc.training.record import trained_on
from tests.training.conftest import configure, losses, samples_of

WORDS = ["surrogate.name=structured", "surrogate.width=8", "data.max_clips=1", "data.crops_per_clip=1", "data.groups=1"]


def test_layers_that_are_kept_give_what_the_surrogate_predicts(tiny, tmp_path):
    config = configure("surrogate", [*tiny, "data.maps_per_clip=4", "data.maps_with_frames=2"], tmp_path, *WORDS)
    samples = samples_of(config, with_maps=True)
    torch.manual_seed(0)
    surrogate = StructuredSurrogate(gop=8, width=8).eval().requires_grad_(False)
    torch.nn.init.normal_(surrogate.correction.tail.weight, std=0.02)
    batch = default_collate([LayerSamples(samples, surrogate, frames=2, seed=0).at_step(0, 3)])
    asked = batch["asked"][0].tolist()
    assert len(asked) == 2 and batch["layer_luma"].shape[:3] == (1, 2, 2)
    analysis = surrogate.analyse(batch)
    for maps, frames in ((torch.arange(4), []), (batch["shown"][0], asked), (batch["shown"][0, 1:], asked[1:])):
        kept = surrogate.group_predictor(batch)(maps, frames)
        direct = surrogate.predict(analysis, one_hot_qp(batch["qp"][0, maps]), frame_numbers=frames)
        torch.testing.assert_close(kept.log_bits, direct.log_bits, rtol=0, atol=3e-3)
        torch.testing.assert_close(kept.frames, direct.frames, rtol=0, atol=2e-3)


def test_a_fit_runs_the_layers_once_and_lowers_its_losses(tiny, tmp_path, monkeypatch):
    runs, original = [], StructuredSurrogate.layers
    monkeypatch.setattr(StructuredSurrogate, "layers", lambda *words, **names: runs.append(1) or original(*words, **names))
    words = ["trainer.max_steps=40", "learning_rate=0.01", "data.maps_per_clip=4", f"data.cache={tmp_path / 'cache'}"]
    words += ["data.cache_workers=1", "logger.pictures_every=1000"]
    path = training.run(configure("surrogate", tiny, tmp_path / "run", *WORDS, *words))
    assert len(runs) == 4 + 1  # every map of the group, and the picture of the first step
    for term in ("l1", "clip_bits", "frame_bits"):
        values = list(losses(tmp_path / "run", term=term).values())
        assert sum(values[-8:]) < 0.9 * sum(values[:8]), term
    surrogate, stored = load_surrogate(path)
    assert stored["surrogate"]["width"] == 8 and sum(p.numel() for p in surrogate.parameters()) < 200_000
    words = [f"start={path}", "data.rungs=[20,30]", "trainer.max_steps=2", "more_sizes=[[48,64]]", "mean_qps=[47,48]"]
    other = configure("surrogate", tiny, tmp_path / "other", *WORDS, "data.maps_per_clip=3", *words)
    training.run(other)  # which rungs there are is nothing to a surrogate that reads none
    assert set(losses(tmp_path / "other")) == {0, 1}
    clips = build_surrogate_clips(other)
    assert [(clip.height, clip.width) for clip in clips] == [tuple(other.data.size), (48, 64)]
    assert len({clips.identity(k) for k in range(2)}) == 2 and clips.identity(1) == clips.parts[1].identity(0)
    assert trained_on(clips) == load_surrogate(tmp_path / "other" / "surrogate.safetensors")[1]["trained_on"] != []
    samples = build_samples(clips, X264(), **ladder_settings(other.data, seed=0), **map_settings(other.data), mean_qps=(47, 48))
    assert all(46 < float(sample["qp"].float().mean()) < 49 for sample in map(samples.without_pixels, range(2)))
    assert samples.group_words(0) != samples_of(other, with_maps=True).group_words(0)  # kept apart


def test_sizes_are_not_mixed_in_a_step(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"clips of more_sizes cannot be in one step: set data.batch_size=1, got 2"):
        configure("surrogate", tiny, tmp_path, "more_sizes=[[48,64]]", "data.batch_size=2")


def test_l_cv_of_a_task_asks_about_every_map(tiny, tmp_path):
    words = ["trainer.max_steps=1", "task=reconstruction", "losses.cv_task=0.3", "data.maps_per_clip=3"]
    training.run(configure("surrogate", tiny, tmp_path, *WORDS, *words))
    assert 0 < losses(tmp_path, term="cv_task")[0] <= 1
