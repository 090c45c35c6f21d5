"""A training step gets the pixels that its losses look at, and computes the same as from all of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dvcc.codecs import X264
from dvcc.codecs.cache import EncodeCache
from dvcc.config.parse import parse
from dvcc.surrogate import build_surrogate
from dvcc.surrogate.samples import LadderSamples
from dvcc.surrogate.step_samples import StepSamples
from dvcc.surrogate.store import SampleStore
from dvcc.surrogate.training import build_module
from dvcc.training.batches import collate
from dvcc.training.steps import seed_step
from tests.conftest import make_scene

QPS = (12, 18, 24, 30, 36, 42, 48)


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> LadderSamples:
    clips = [make_scene(frames=10, seed=seed) for seed in range(2)]
    folder = tmp_path_factory.mktemp("cache")
    settings = {"qps": QPS, "maps_per_clip": 4, "groups": 3, "store_pixels": True, "store": SampleStore(folder / "samples")}
    return LadderSamples(clips, codec=X264(gop=10), cache=EncodeCache(folder), **settings)


def test_a_step_computes_the_same_from_what_it_looks_at(samples, monkeypatch):
    """Losses and gradients, to the last bit, with weights that move effective QPs."""
    _, config = parse("train", ["surrogate", "losses.frames=2"])
    torch.manual_seed(0)
    surrogate = build_surrogate("anchored", qps=QPS, gop=10, width=8)
    for parameter in surrogate.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    module = build_module(surrogate, config)
    monkeypatch.setattr(module, "log", lambda *arguments, **settings: None)
    fewer = 0
    for step, indices in enumerate([[0], [1], [2], [4], [1, 2], [0, 3, 5]]):
        drawn = []
        for whole in (True, False):
            looked_at = StepSamples(samples, frames=2, seed=0, whole=whole)
            batch = collate([looked_at.at_step(index, step) for index in indices])
            seed_step(0, step)
            module.zero_grad()
            loss = module.training_step(batch, 0)
            loss.backward()
            drawn.append((loss.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)))
        fewer += batch["ladder_frames"].numel() < samples[0]["ladder_frames"].numel() * len(indices)
        assert len(drawn[0]) > 10 and all(torch.equal(a, b) for a, b in zip(*drawn, strict=True)), step
    assert fewer >= 4  # or nothing was left out


def test_what_a_step_looks_at_depends_on_seed_and_step_alone(samples):
    looked_at = StepSamples(samples, frames=2, seed=5)
    asked = [looked_at.at_step(0, step)["asked"].tolist() for step in range(40)]
    assert asked == [StepSamples(samples, frames=2, seed=5).at_step(3, step)["asked"].tolist() for step in range(40)]
    assert {frame for pair in asked for frame in pair} == set(range(10)) and all(len(set(pair)) == 2 for pair in asked)
    assert asked != [StepSamples(samples, frames=2, seed=6).at_step(0, step)["asked"].tolist() for step in range(40)]


def test_stored_samples_are_what_was_decoded_and_are_read_without_an_encoder(samples, tmp_path, monkeypatch):
    plain = LadderSamples(samples.clips, codec=samples.codec, cache=samples.cache, qps=QPS, maps_per_clip=4, groups=3)
    for index in range(len(samples)):
        made, stored = plain[index], samples[index]
        assert made.keys() == stored.keys()
        assert all(torch.equal(made[name], stored[name]) and made[name].dtype == stored[name].dtype for name in made)
    assert all(samples.is_stored(clip) for clip in range(2)) and not plain.is_stored(0)
    sizes = [path.stat().st_size for path in samples.paths(0)]
    assert 1.0 < sum(sizes) / (len(QPS) * samples[0]["frames"].numel()) < 2  # the pixels of the ladder, and a little more
    monkeypatch.setattr(EncodeCache, "encode", lambda *_: pytest.fail("a stored sample was encoded again"))
    assert torch.equal(samples[1]["coded_bits"], plain.store.get([], lambda: samples[1])["coded_bits"])


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_a_damaged_entry_is_made_again(damage, tmp_path):
    store, tensor = SampleStore(tmp_path), torch.arange(100)
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"tensor": tensor}

    assert torch.equal(store.get(["a"], make)["tensor"], tensor) and store.has(["a"]) and not store.has(["b"])
    path = store.path(["a"])
    path.write_bytes({"truncated": path.read_bytes()[:-8], "empty": b"", "foreign": b"PK" * 100}[damage])
    assert not store.has(["a"]) and torch.equal(store.get(["a"], make)["tensor"], tensor) and len(made) == 2
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [path.name]


def test_other_settings_are_other_entries(samples):
    paths = {path for clip in range(2) for path in samples.paths(clip)}
    assert len(paths) == 2 * (2 + 3)
    for change in ({"seed": 1}, {"maps_per_clip": 5}, {"maps_with_frames": 2}):
        settings = {"maps_per_clip": 4, "groups": 3, "qps": QPS, **change}
        other = LadderSamples(
            samples.clips, codec=samples.codec, cache=samples.cache, store=samples.store, store_pixels=True, **settings
        )
        assert len(paths.intersection(other.paths(0))) == 2  # the clip and its ladder
    other = LadderSamples(
        samples.clips, codec=dataclasses.replace(samples.codec, preset="fast"), cache=samples.cache, store=samples.store, qps=QPS
    )
    assert not paths.intersection(other.paths(0))
