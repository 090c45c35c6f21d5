"""One suite for every rate controller, on the real codec."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dvcc import ABR, CRF, X264, Clip, ConfigError
from dvcc.codecs import passes as coding
from dvcc.codecs.cache import EncodeCache
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.deployed.runtime import Control, load_control
from dvcc.control.network import ControlNetwork
from dvcc.media.format import ClipSource
from dvcc.networks.sources import CHECKPOINTS
from dvcc.qp import fill_skipped_qps
from dvcc.rate_control import RATE_CONTROLLERS, Means, best_within, build_rate_controller
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.base import corrected_kbps
from dvcc.rate_control.learned import LearnedMap, dithered
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.rate_control.saliency import GradedSaliency, dilated, saliency_of
from dvcc.surrogate import build_surrogate
from dvcc.tasks import ReconstructionTask, build_task
from tests.conftest import make_scene

LIMITS = {"abr1": 1, "abr2": 2, "abr2_no_psy": 2, "abr2_no_aq": 2, "abr2_corrected": 4, "learned": 2, "learned_corrected": 4}
LIMITS |= {"learned_map": 2, "learned_map_corrected": 3, "learned_unchecked": 2, "abr2_twice": 4, "learned_objects_own": 4}
LIMITS |= {
    "abr1_vbv": 1,
    "learned_vbv": 1,
    "saliency": 4,
    "saliency_binary": 7,
    "boxes": 2,
    "objects": 2,
    "objects_corrected": 4,
    "objects_every_frame": 2,
    "objects_own": 2,
    "objects_own_every_frame": 2,
    "objects_vbv": 1,
    "descent": 3 + 2 * 2,
    "search": 3 + 2 * 6,
}  # their ladders have three rungs here, and a search tries five


def trained() -> Control:
    """A prior fitted on one scene's real encodes; the offsets are random."""
    from dvcc import QPMap

    torch.manual_seed(0)
    network, clip, codec = ControlNetwork(width=8), make_scene(), X264()
    torch.nn.init.normal_(network.head.weight, std=0.02)
    coded = [codec.encode(clip, QPMap.uniform(qp, like=clip)) for qp in range(14, 50, 4)]
    log_bpp = torch.log(torch.tensor([[c.bits_per_pixel for c in coded]]))
    network.prior.fit([clip.frames], log_bpp, torch.arange(14.0, 50, 4))
    return deploy(network)


@pytest.fixture(scope="module")
def control() -> Control:
    return trained()


@pytest.fixture(scope="module")
def means(control, detector, tmp_path_factory) -> Means:
    surrogate = build_surrogate("anchored", qps=(16, 30, 44), gop=8, width=8).requires_grad_(False)
    task = build_task("detection", model="fastestdet", weights=detector)
    return Means(X264(), control, task, surrogate, EncodeCache(tmp_path_factory.mktemp("cache")))


@pytest.fixture(params=RATE_CONTROLLERS)
def name(request):
    return request.param


@pytest.fixture
def controller(name, means, tmp_path, monkeypatch):
    monkeypatch.setattr("dvcc.control.descent._STEPS", 5)  # enough to be a descent
    if name == "learned_objects_own":  # which adds to a control that sees an analysis encode
        means = replace(means, control=load_control(CHECKPOINTS / "control_segmentation.onnx"))
    built = build_rate_controller(name, replace(means, cache=EncodeCache(tmp_path)))
    return replace(built, tries=5) if name == "search" else built


def test_encodes_are_real_and_near_the_target(controller, scene):
    targets = (90.0, 250.0)
    coded = [controller.encode(scene, target) for target in targets]
    for target, result in zip(targets, coded, strict=True):
        assert 0.3 * target < result.bitrate_kbps < 2 * target
        assert result.frames.shape == scene.frames.shape and result.num_encodes >= 1
    assert coded[0].bits < coded[1].bits


def test_every_encode_is_counted(name, controller, scene, monkeypatch):
    passes = []
    original = coding.code
    monkeypatch.setattr(coding, "code", lambda *a, **k: passes.append(1) or original(*a, **k))
    result = controller.encode(scene, 120.0)
    assert result.num_encodes == len(passes)
    assert len(passes) <= LIMITS.get(name, 6)


def test_a_target_must_be_positive(controller, scene):
    with pytest.raises(ConfigError, match="positive"):
        controller.encode(scene, 0.0)


@pytest.mark.parametrize("searching", ["crf", "cqp"])
def test_searches_come_close_from_below(searching, scene):
    result = build_rate_controller(searching, Means()).encode(scene, 150.0)
    assert 0.8 * 150 < result.bitrate_kbps <= 150


@pytest.mark.parametrize("plain", ["abr2", "learned", "learned_map"])
def test_correction_does_not_leave_more_over_the_target(plain, scene):
    means, pair = Means(control=trained()), (plain, f"{plain}_corrected")
    for target in (60.0, 120.0, 240.0):
        first, corrected = (build_rate_controller(name, means).encode(scene, target) for name in pair)
        assert max(corrected.bitrate_kbps - target, 0) <= max(first.bitrate_kbps - target, 0)


def test_best_within_prefers_the_largest_that_fits(scene):
    fine, middle, coarse = (X264().encode(scene, CRF(value)) for value in (20, 28, 40))
    assert best_within([fine, coarse, middle], middle.bitrate_kbps).bits == middle.bits
    assert best_within([fine, middle], coarse.bitrate_kbps).bits == middle.bits  # none fits: the cheapest
    assert best_within([fine, coarse], fine.bitrate_kbps).num_encodes == 2


def test_unknown_and_unfounded_controllers_are_refused(means):
    with pytest.raises(ConfigError, match="abr2_corrected"):
        build_rate_controller("vbr", Means())
    for name, missing in {
        "learned": "checkpoint",
        "learned_vbv": "checkpoint",
        "saliency": "task",
        "boxes": "detection",
        "objects_own": "detection",
        "descent": "surrogate",
        "search": "surrogate",
    }.items():
        with pytest.raises(ConfigError, match=missing):
            build_rate_controller(name, Means())
    with pytest.raises(ConfigError, match=r"this one sees none: take objects_own"):
        build_rate_controller("learned_objects_own", means)
    student = build_task("detection", model="student")
    with pytest.raises(ConfigError, match="student is none: export it first"):
        build_rate_controller("objects_own", replace(means, task=student))
    with pytest.raises(ConfigError, match="cache"):
        build_rate_controller("search", replace(means, cache=None))


def test_an_untrained_control_is_two_pass_abr_to_the_bit(scene):
    control = AverageBitrate(control=deploy(ControlNetwork(width=8)))
    assert np.array_equal(control.encode(scene, 120.0).bits_per_frame, X264().encode(scene, ABR(120.0)).bits_per_frame)


def test_offsets_have_nothing_in_common(scene):
    """Or x264 would have to take it back, which its two passes do badly."""
    torch.manual_seed(0)
    control = ControlNetwork(width=8)
    control.head.bias.data.fill_(0.2)
    torch.nn.init.normal_(control.head.weight, std=0.1)
    source = ClipSource(scene)
    generated = LearnedOffsets(deploy(control), source, 120.0, X264()).generate(source.frames())
    offsets = np.stack([values for _, values in generated])
    assert len(offsets) == 8 and np.ptp(offsets) > 1
    np.testing.assert_allclose(offsets.mean((1, 2)), 0, atol=0.1)  # of whole QPs


def test_a_control_moves_quality_where_it_says(scene, monkeypatch):
    """Finer on the left, coarser on the right, on top of x264's own decisions, at nearly the same bits."""

    halves = np.where(np.arange(6) < 3, -6, 6) * np.ones((4, 1), np.int8)
    controller = AverageBitrate(control=deploy(ControlNetwork(width=8)))
    plain = controller.encode(scene, 150.0)
    monkeypatch.setattr(LearnedOffsets, "generate", lambda self, frames: ((frame, halves) for frame in frames))
    moved = controller.encode(scene, 150.0)
    error = [(c.frames.float() - scene.frames.float()).square().mean((0, 1, 2)) for c in (plain, moved)]
    assert error[1][:48].mean() < 0.7 * error[0][:48].mean() and error[1][48:].mean() > 1.3 * error[0][48:].mean()
    assert moved.bits == pytest.approx(plain.bits, rel=0.15)


def test_saliency_is_where_the_loss_is(scene):
    """Of the squared error, |gradient x error| is twice the squared error: the macroblocks that are coded worst."""
    task = build_task("reconstruction", model="psnr")
    coded = X264().encode(scene, ABR(90.0))
    saliency = saliency_of(task, scene, coded)
    error = (coded.frames.float() - scene.frames.float()).square().mean(1)
    expected = error.unflatten(1, (4, 16)).unflatten(3, (6, 16)).mean((2, 4))
    assert np.corrcoef(saliency.flatten(), expected.flatten())[0, 1] > 0.999
    spot = torch.zeros(1, 5, 5)
    spot[0, 2, 3] = 2.0
    assert dilated(spot)[0].nonzero().tolist() == [[r, c] for r in (1, 2, 3) for c in (2, 3, 4)]


def test_graded_saliency_spends_more_where_the_task_looks(scene, monkeypatch):
    asked = []
    original = X264.encode
    monkeypatch.setattr(X264, "encode", lambda self, clip, rate: asked.append(rate) or original(self, clip, rate))
    GradedSaliency(build_task("reconstruction", model="psnr")).encode(scene, 120.0)
    offsets = asked[-1].offsets.values
    task, first = build_task("reconstruction", model="psnr"), original(X264(), scene, ABR(120.0))
    saliency = dilated(saliency_of(task, scene, first)).mean(0)
    assert np.corrcoef(offsets[0].ravel(), saliency.log().flatten())[0, 1] < -0.95 and np.ptp(offsets) > 0


def test_the_map_of_an_untrained_control_codes_what_x264_would(scene):
    """As many encodes as two-pass ABR, every QP given, and about its quality at its bits."""
    network = ControlNetwork(width=8)  # whose offsets are 0
    network.prior.coefficients.copy_(torch.tensor([30.0, 0, 0, 0, 0]))
    analysis = X264().encode(scene, CRF(30))
    coded = LearnedMap(deploy(network)).encode(scene, 120.0)
    assert coded.num_encodes == 2 and coded.requested_qp is not None
    moved = coded.requested_qp.values - fill_skipped_qps(analysis.realised_qp().values)
    assert np.ptp(moved) <= 2  # a common shift, dithered
    anchors = [X264().encode(scene, ABR(rate)) for rate in (80.0, 110.0, 140.0, 170.0)]
    distortion = [float((c.frames.float() - scene.frames.float()).square().mean().log10()) for c in [coded, *anchors]]
    at_its_bits = np.interp(np.log(coded.bits), [np.log(c.bits) for c in anchors], distortion[1:])
    assert distortion[0] < at_its_bits + 0.05  # half a dB


def test_the_ladder_finds_room_where_there_is_some(means, scene):
    """A task that cares for the left half only: x264 spends evenly, who knows the ladder must not."""

    class LeftHalf(ReconstructionTask):
        def degradation(self, prediction, reference):
            return super().degradation(prediction, reference) * (torch.arange(prediction.shape[-1]) < 48)

    searching = replace(means, task=LeftHalf())
    for plain, informed in (("abr2_corrected", "search"), ("abr2", "descent")):
        coded = [build_rate_controller(name, searching).encode(scene, 120.0) for name in (plain, informed)]
        error = [(c.frames.float() - scene.frames.float())[..., :48].square().mean() for c in coded]
        assert error[1] < 0.8 * error[0] and coded[1].bitrate_kbps <= 1.15 * coded[0].bitrate_kbps


def test_dithered_maps_keep_the_mean_and_change_once_per_frame(scene):
    qp = dithered(np.full((2, 10, 20), 30.3)).values
    assert qp.mean() == pytest.approx(30.3) and set(np.unique(qp)) == {30, 32}
    assert (np.diff(qp.reshape(2, -1), axis=1) != 0).sum(1).tolist() == [1, 1]
    assert np.array_equal(dithered(np.full((2, 10, 20), 30.0)).values, np.full((2, 10, 20), 30))
    assert dithered(np.full((1, 4, 6), 55.0)).values.max() == 51
    sizes = [X264().encode(scene, dithered(np.full((8, 4, 6), mean))).bits for mean in (30.0, 30.5, 31.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def still(brightness: int | None = None, frames: int = 8) -> Clip:
    first = make_scene().frames[:1].expand(frames, -1, -1, -1)
    return Clip.from_rgb((first if brightness is None else torch.full_like(first, brightness)).numpy(), 25)


def scene_cut() -> Clip:
    return Clip.from_rgb(torch.cat([make_scene(frames=4).frames, 255 - make_scene(frames=4, seed=3).frames]).numpy(), 25)


UNUSUAL = {
    "black": still(0),
    "still": still(),
    "scene cut": scene_cut(),
    "one frame": still(frames=1),
    "short": make_scene(frames=3),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_clips_are_coded_by_every_controller(kind, controller):
    clip = UNUSUAL[kind]
    coded = controller.encode(clip, 80.0)
    assert coded.frames.shape == clip.frames.shape and coded.bitrate_kbps > 0


def test_a_correction_aims_below_its_target():
    coded = X264().encode(make_scene(), ABR(100.0))
    assert corrected_kbps(100.0, coded, 100.0) == pytest.approx(0.93 * 100 * 100 / coded.bitrate_kbps)
    long = replace(coded, bits_per_frame=np.repeat(coded.bits_per_frame, 10))  # the same rate, on eighty frames
    assert corrected_kbps(100.0, long, 100.0) == pytest.approx(0.993 * 100 * 100 / coded.bitrate_kbps)
    assert corrected_kbps(2.0, coded, 2.0) == 1.0  # x264 counts in whole kbit/s


def test_a_stream_keeps_its_channel(scene):
    """One pass with a buffer of a second; an untrained control changes nothing."""
    stream = make_scene(frames=60)
    plain = build_rate_controller("abr1_vbv", Means()).encode(stream, 120.0)
    assert plain.num_encodes == 1 and "vbv_maxrate=120" in plain.settings and "rc=cbr" in plain.settings
    control = deploy(ControlNetwork(width=8))
    learned = build_rate_controller("learned_vbv", Means(control=control)).encode(stream, 120.0)
    assert np.array_equal(learned.bits_per_frame, plain.bits_per_frame)


def half_rate(means: Means) -> AverageBitrate:
    """A controller of one's own."""
    return AverageBitrate(means.codec, passes=1)


def test_a_controller_of_ones_own_has_a_place(means, scene):
    controller = build_rate_controller("tests.rate_control.test_contract:half_rate", means)
    assert controller.encode(scene, 200.0).num_encodes == 1
    with pytest.raises(ConfigError, match="gave a Control: return a RateController"):
        build_rate_controller("tests.rate_control.test_contract:no_controller", means)
    with pytest.raises(ConfigError, match="has no nothing"):
        build_rate_controller("tests.rate_control.test_contract:nothing", means)
    with pytest.raises(ConfigError, match=r"of_another_name\(means=\.\.\) failed \(TypeError: .*'means'\): correct it"):
        build_rate_controller("tests.rate_control.test_contract:of_another_name", means)


def no_controller(means: Means) -> Control | None:
    """Not one."""
    return means.control


def of_another_name(others: Means) -> AverageBitrate:
    """Called with means=.., which it does not take."""
    return half_rate(others)
