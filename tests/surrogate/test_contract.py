"""One suite for every surrogate, on a sample of real encodes."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate
from torchvision.models.optical_flow import raft_small

from dvcc import X264
from dvcc.codecs.cache import EncodeCache
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.weights import Weights, save_weights
from dvcc.surrogate import SURROGATES, build_surrogate, load_surrogate, one_hot_qp
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.rungs import Rungs
from dvcc.surrogate.samples import LadderSamples
from tests.conftest import make_scene

QPS = (16, 26, 36, 46)
SETTINGS = {"qps": QPS, "gop": 8, "width": 16}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> dict[str, torch.Tensor]:
    clips = [make_scene(seed=0, height=72, width=88), make_scene(seed=1, height=72, width=88)]  # not multiples of 16
    cache = EncodeCache(tmp_path_factory.mktemp("cache"))
    samples = LadderSamples(clips, codec=X264(), cache=cache, qps=QPS, maps_per_clip=3, maps_with_frames=1)
    return default_collate([samples[0], samples[1]])


@pytest.fixture(scope="module")
def qp(sample) -> torch.Tensor:
    """One map that is not flat for each of the two clips."""
    return one_hot_qp(sample["qp"][:, 1])


@pytest.fixture(params=SURROGATES)
def surrogate(request):
    torch.manual_seed(0)
    surrogate = build_surrogate(request.param, **SETTINGS)
    for module in surrogate.modules():  # heads start at zero, which would hide a missing path
        if isinstance(module, torch.nn.Conv2d) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.02)
    return surrogate.eval()


def test_shapes_and_finite_values(surrogate, sample, qp):
    predicted = surrogate(sample, qp)
    assert predicted.frames.shape == (2, 8, 3, 72, 88) and predicted.log_bits.shape == (2, 8)
    assert torch.isfinite(predicted.frames).all() and torch.isfinite(predicted.log_bits).all()
    torch.testing.assert_close(predicted.log_clip_bits, torch.log(predicted.log_bits.exp().sum(1)))


def test_gradient_reaches_every_macroblocks_qp(surrogate, sample, qp):
    qp = qp.clone().requires_grad_()
    predicted = surrogate(sample, qp)
    (frames_grad,) = torch.autograd.grad(predicted.frames.square().mean(), qp, retain_graph=True)
    (bits_grad,) = torch.autograd.grad(predicted.log_clip_bits.sum(), qp)
    for gradient in (frames_grad, bits_grad):
        assert torch.isfinite(gradient).all()
        assert (gradient.abs().sum(-1) > 0).float().mean() > 0.95


def test_clips_of_a_batch_do_not_mix(surrogate, sample, qp):
    both = surrogate(sample, qp)
    second = surrogate({name: value[1:] for name, value in sample.items()}, qp[1:])
    torch.testing.assert_close(both.frames[1:], second.frames, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.log_bits[1:], second.log_bits, rtol=1e-4, atol=1e-4)


def test_many_maps_of_one_analysis_are_what_each_is_alone(surrogate, sample):
    together = surrogate(sample, one_hot_qp(sample["qp"]).flatten(0, 1))
    assert together.frames.shape == (6, 8, 3, 72, 88)
    for n in range(3):
        alone = surrogate(sample, one_hot_qp(sample["qp"][:, n]))
        torch.testing.assert_close(together.frames[n::3], alone.frames, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.log_bits[n::3], alone.log_bits, rtol=1e-4, atol=1e-4)


def test_some_frames_are_what_they_are_among_all(surrogate, sample, qp):
    analysis = surrogate.analyse(sample)
    everything, some = surrogate.predict(analysis, qp), surrogate.predict(analysis, qp, frame_numbers=[6, 1])
    torch.testing.assert_close(some.frames, everything.frames[:, [6, 1]], rtol=1e-4, atol=1e-5)
    none = surrogate.predict(analysis, qp, frame_numbers=[])
    assert none.frames.shape == (2, 0, 3, 72, 88)
    torch.testing.assert_close(none.log_bits, everything.log_bits, rtol=1e-4, atol=1e-4)


def test_what_a_reference_gets_reaches_the_frames_that_lean_on_it(surrogate, sample, qp):
    """A better I frame must show in later frames, and no frame may know what is coded after it."""
    types = "".join(FRAME_TYPES[k] for k in sample["frame_types"][0])
    first_p = types.index("P")
    other = sample["qp"][:, 1].clone()
    other[:, 0] = (other[:, 0] - 12).clamp(min=0)
    a, b = surrogate(sample, qp), surrogate(sample, one_hot_qp(other))
    assert (a.log_bits[:, first_p] - b.log_bits[:, first_p]).abs().max() > 1e-5
    last_b = types.rindex("B")  # no reference of anything
    other = sample["qp"][:, 1].clone()
    other[:, last_b] = 50
    c = surrogate(sample, one_hot_qp(other))
    others = [t for t in range(8) if t != last_b]
    torch.testing.assert_close(c.log_bits[:1, others], a.log_bits[:1, others], rtol=1e-4, atol=1e-4)


def test_qps_that_do_not_fit_the_clip_are_named(surrogate, sample, qp):
    for wrong in (qp[:, :4], qp[..., :3, :, :], qp[..., :40], qp[:1]):
        with pytest.raises(ConfigError, match=r"do not fit 2 clip.*give \(a multiple of 2, 8, 5, 6, 52\)"):
            surrogate(sample, wrong)
        with pytest.raises(ConfigError, match="do not fit 2 clip"):
            surrogate.predict(surrogate.analyse(sample), wrong)


def test_a_few_steps_on_one_map_learn_its_bits(surrogate, sample, qp):
    optimizer = torch.optim.Adam(surrogate.parameters(), lr=1e-2)
    target = torch.log(sample["coded_bits"][:, 1])
    errors = []
    for step in range(25):
        torch.manual_seed(step)
        loss = (surrogate(sample, qp).log_bits - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
        if np.mean(errors[-3:]) < 0.7 * errors[0]:
            return
    raise AssertionError(f"from {errors[0]:.3f} to {errors[-1]:.3f}")


def test_weights_survive_the_disk_and_bad_files_are_named(surrogate, sample, qp, tmp_path):
    name = next(key for key, build in SURROGATES.items() if isinstance(build(**SETTINGS), type(surrogate)))
    path = tmp_path / "surrogate.safetensors"
    config = {"surrogate": {"name": name, **SETTINGS, "qps": list(QPS)}, "run": {"codec": {}}}
    save_weights(path, Weights("surrogate", config, surrogate.state_dict()))
    loaded, stored = load_surrogate(path)
    assert stored == config
    ours, theirs = surrogate(sample, qp), loaded.eval()(sample, qp)
    torch.testing.assert_close((ours.log_bits, ours.frames), (theirs.log_bits, theirs.frames))

    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    (tmp_path / "flipped.safetensors").write_bytes(content)
    (tmp_path / "truncated.safetensors").write_bytes(content[: len(content) // 2])
    save_weights(tmp_path / "control.safetensors", Weights("control", {}, {"a": torch.ones(1)}))
    wrong = {**config["surrogate"], "width": 8}
    save_weights(tmp_path / "other.safetensors", Weights("surrogate", {**config, "surrogate": wrong}, surrogate.state_dict()))
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


def test_qps_out_of_range_are_named():
    for wrong in (-1, 52):
        with pytest.raises(ConfigError, match=rf"QPs go from 0 to 51, got .*{wrong}"):
            one_hot_qp(torch.tensor([[30, wrong]]))
    with pytest.raises(ConfigError, match=r"int64, got torch\.float32: round them first"):
        one_hot_qp(torch.tensor([[30.5]]))


def test_unknown_names_list_the_choices():
    with pytest.raises(ConfigError, match="anchored, structured, network"):
        build_surrogate("anchord", **SETTINGS)


def test_reading_between_rungs_is_linear_and_stops_at_the_ends():
    rungs = Rungs(QPS)
    qp = torch.tensor([[[3.0, 16.0, 18.5, 31.0, 46.0, 51.0]]], requires_grad=True)
    values = rungs.at(torch.tensor([QPS], dtype=torch.float)[..., None, None].expand(-1, -1, 1, 6), qp)
    assert values.flatten().tolist() == [16, 16, 18.5, 31, 46, 46]
    (slope,) = torch.autograd.grad(values.sum(), qp)
    assert slope.flatten().tolist() == [0, 1, 1, 1, 1, 0]  # on a rung too, where most maps are


def test_frames_can_be_aligned_by_another_network(sample, qp, tmp_path):
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    ours = build_surrogate("anchored", **SETTINGS).analyse(sample)
    other = build_surrogate("anchored", **SETTINGS, flow="raft_small", flow_weights=str(tmp_path / "raft.pth")).analyse(sample)
    assert (ours.motion.past - other.motion.past).abs().max() > 0.1
    assert other.motion.past.shape == ours.motion.past.shape
