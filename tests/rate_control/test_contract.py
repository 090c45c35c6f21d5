"""One suite for every rate controller, on the real codec."""

import pytest
import torch

from dvcc import CRF, X264, ConfigError
from dvcc.control import ControlNetwork
from dvcc.rate_control import RATE_CONTROLLERS, best_within, build_rate_controller
from tests.conftest import make_scene


@pytest.fixture(scope="module")
def control() -> ControlNetwork:
    """A flat start fitted on one scene's real encodes; the departure is untrained."""
    from dvcc import QPMap

    network, clip, codec = ControlNetwork(width=8), make_scene(), X264()
    coded = [codec.encode(clip, QPMap.uniform(qp, like=clip)) for qp in range(14, 50, 4)]
    log_bpp = torch.log(torch.tensor([[c.bits_per_pixel for c in coded]]))
    network.prior.fit([clip.frames], log_bpp, torch.arange(14.0, 50, 4))
    return network.eval()


@pytest.fixture(params=RATE_CONTROLLERS)
def name(request):
    return request.param


@pytest.fixture
def controller(name, control):
    return build_rate_controller(name, codec=X264(), control=control)


def test_encodes_are_real_and_near_the_target(controller, scene):
    targets = (90.0, 250.0)
    coded = [controller.encode(scene, target) for target in targets]
    for target, result in zip(targets, coded, strict=True):
        assert 0.3 * target < result.bitrate_kbps < 2 * target
        assert result.frames.shape == scene.frames.shape and result.num_encodes >= 1
    assert coded[0].bits < coded[1].bits


def test_every_encode_is_counted(name, controller, scene, monkeypatch):
    passes = []
    original = X264._encode_pass
    monkeypatch.setattr(X264, "_encode_pass", lambda *a, **k: passes.append(1) or original(*a, **k))
    result = controller.encode(scene, 120.0)
    assert result.num_encodes == len(passes)
    limits = {"abr1": 1, "abr2": 2, "abr2_corrected": 4, "learned": 1, "learned_corrected": 2}
    assert len(passes) <= limits.get(name, 6)


def test_a_target_must_be_positive(controller, scene):
    with pytest.raises(ConfigError, match="positive"):
        controller.encode(scene, 0.0)


@pytest.mark.parametrize("searching", ["crf", "cqp"])
def test_searches_come_close_from_below(searching, scene):
    result = build_rate_controller(searching, codec=X264()).encode(scene, 150.0)
    assert 0.8 * 150 < result.bitrate_kbps <= 150


@pytest.mark.parametrize("pair", [("abr2", "abr2_corrected"), ("learned", "learned_corrected")])
def test_correction_does_not_leave_more_over_the_target(pair, control, scene):
    for target in (60.0, 120.0, 240.0):
        plain, corrected = (build_rate_controller(n, codec=X264(), control=control).encode(scene, target) for n in pair)
        assert max(corrected.bitrate_kbps - target, 0) <= max(plain.bitrate_kbps - target, 0)


def test_best_within_prefers_the_largest_that_fits(scene):
    fine, middle, coarse = (X264().encode(scene, CRF(value)) for value in (20, 28, 40))
    assert best_within([fine, coarse, middle], middle.bitrate_kbps).bits == middle.bits
    assert best_within([fine, middle], coarse.bitrate_kbps).bits == middle.bits  # none fits: the cheapest
    assert best_within([fine, coarse], fine.bitrate_kbps).num_encodes == 2


def test_unknown_and_unfounded_controllers_are_refused():
    with pytest.raises(ConfigError, match="abr2_corrected"):
        build_rate_controller("vbr", codec=X264())
    with pytest.raises(ConfigError, match="checkpoint"):
        build_rate_controller("learned", codec=X264())
