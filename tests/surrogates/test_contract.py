"""One suite for every surrogate, on a sample of real encodes."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264
from dvcc.data.ladder import EncodeCache
from dvcc.data.module import LadderSamples
from dvcc.errors import CheckpointError, ConfigError
from dvcc.surrogates import SURROGATES, build_surrogate, load_surrogate, one_hot_qp
from dvcc.surrogates.base import interpolation_weights
from dvcc.weights import Weights, save_weights
from tests.conftest import make_scene

QPS = (16, 26, 36, 46)
SETTINGS = {"qps": QPS, "gop": 8, "width": 16}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> dict[str, torch.Tensor]:
    clips = [make_scene(seed=0, height=72, width=88), make_scene(seed=1, height=72, width=88)]  # not multiples of 16
    cache = EncodeCache(tmp_path_factory.mktemp("cache"))
    samples = LadderSamples(clips, codec=X264(), cache=cache, qps=QPS, maps_per_clip=1)
    return default_collate([samples[0], samples[1]])


@pytest.fixture(params=SURROGATES)
def surrogate(request):
    torch.manual_seed(0)
    return build_surrogate(request.param, **SETTINGS)


def test_shapes_and_finite_values(surrogate, sample):
    predicted = surrogate(sample, one_hot_qp(sample["qp"]))
    assert predicted.frames.shape == (2, 8, 3, 72, 88) and predicted.log_bits.shape == (2, 8)
    assert torch.isfinite(predicted.frames).all() and torch.isfinite(predicted.log_bits).all()
    torch.testing.assert_close(predicted.log_clip_bits, torch.log(predicted.log_bits.exp().sum(1)))


def test_gradient_reaches_every_macroblocks_qp(surrogate, sample):
    torch.manual_seed(0)
    for module in surrogate.modules():  # the heads start at zero, which would hide a missing path
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.02)
    qp = one_hot_qp(sample["qp"]).requires_grad_()
    predicted = surrogate(sample, qp)
    (frames_grad,) = torch.autograd.grad(predicted.frames.square().mean(), qp, retain_graph=True)
    (bits_grad,) = torch.autograd.grad(predicted.log_clip_bits.sum(), qp)
    for gradient in (frames_grad, bits_grad):
        assert torch.isfinite(gradient).all()
        assert (gradient.abs().sum(-1) > 0).float().mean() > 0.95


def test_clips_of_a_batch_do_not_mix(surrogate, sample):
    surrogate.eval()
    both = surrogate(sample, one_hot_qp(sample["qp"]))
    second = surrogate({name: value[1:] for name, value in sample.items()}, one_hot_qp(sample["qp"][1:]))
    torch.testing.assert_close(both.frames[1:], second.frames, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.log_bits[1:], second.log_bits, rtol=1e-4, atol=1e-4)


def test_a_few_steps_on_one_map_learn_its_bits(surrogate, sample):
    optimizer = torch.optim.Adam(surrogate.parameters(), lr=3e-3)
    target, qp = torch.log(sample["coded_bits"]), one_hot_qp(sample["qp"])
    errors = []
    for step in range(60):
        torch.manual_seed(step)
        loss = (surrogate(sample, qp).log_bits - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert np.mean(errors[-3:]) < 0.5 * errors[0]


def test_weights_survive_the_disk_and_bad_files_are_named(surrogate, sample, tmp_path):
    name = next(key for key, build in SURROGATES.items() if isinstance(build(**SETTINGS), type(surrogate)))
    path = tmp_path / "surrogate.safetensors"
    config = {"surrogate": {"name": name, **SETTINGS, "qps": list(QPS)}}
    save_weights(path, Weights("surrogate", config, surrogate.state_dict()))
    loaded, stored = load_surrogate(path)
    assert stored == config
    qp = one_hot_qp(sample["qp"])
    torch.testing.assert_close(loaded.eval()(sample, qp), surrogate.eval()(sample, qp))

    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    (tmp_path / "flipped.safetensors").write_bytes(content)
    (tmp_path / "truncated.safetensors").write_bytes(content[: len(content) // 2])
    save_weights(tmp_path / "control.safetensors", Weights("control", {}, {"a": torch.ones(1)}))
    wrong = {**config["surrogate"], "width": 8}
    save_weights(tmp_path / "other.safetensors", Weights("surrogate", {"surrogate": wrong}, surrogate.state_dict()))
    reasons = {
        "flipped": "checksum",
        "truncated": "whole",
        "control": "'control'",
        "other": "another model",
        "missing": "no checkpoint",
    }
    for kind, reason in reasons.items():
        with pytest.raises(CheckpointError, match=reason):
            load_surrogate(tmp_path / f"{kind}.safetensors")


def test_unknown_names_list_the_choices():
    with pytest.raises(ConfigError, match="anchored, network"):
        build_surrogate("anchord", **SETTINGS)


def test_interpolation_weights_reproduce_linear_functions():
    weights = interpolation_weights(QPS)
    torch.testing.assert_close(weights.sum(1), torch.ones(52))
    torch.testing.assert_close((weights @ torch.tensor(QPS, dtype=torch.float))[16:47], torch.arange(16.0, 47))
    assert weights[51].tolist() == [0, 0, 0, 1] and weights[3].tolist() == [1, 0, 0, 0]
