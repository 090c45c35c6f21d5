"""Eyes see what their network sees in torch, in every place where a control runs."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from dvcc import units
from dvcc.clip import frame_to_rgb, planar_frame
from dvcc.codecs import X264
from dvcc.control.deployed.onnx_export import control_to_onnx, deploy
from dvcc.control.deployed.runtime import load_control
from dvcc.control.deployed.stream import ControlStream, reduced_planes, told_rate
from dvcc.control.eyes import EYES, load_eyes, make_eyes, nanodet_plus_m
from dvcc.control.eyes.base import Look, Scores, shown_size, to_grid, with_outputs
from dvcc.control.eyes.efficientvit_b0 import EfficientViTEyes
from dvcc.control.eyes.efficientvit_graph import to_onnx
from dvcc.control.eyes.nanodet_plus_m import NanoDetEyes
from dvcc.control.network import ControlNetwork, centred, mean_so_far
from dvcc.control.planes import ClipPlanes
from dvcc.errors import CheckpointError, ConfigError
from dvcc.media.format import ClipSource
from dvcc.networks.detectors import load_detector
from dvcc.networks.detectors.base import Boxes
from dvcc.networks.detectors.gfl import Nanodet
from dvcc.networks.efficientvit import EfficientViT
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import Normalise
from dvcc.networks.nanodet_plus import NanoDetPlus
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.objects import ObjectStream, load_objects
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.surrogate.fill import fill_samples
from dvcc.surrogate.store import SampleStore
from tests.conftest import make_noise, make_scene

PUBLISHED = CHECKPOINTS / NanoDetEyes.file


def nanodet(features: str = "none", every: int = 1) -> NanoDetEyes:
    return NanoDetEyes(PUBLISHED.read_bytes(), features=features, every=every)


def segmenter() -> EfficientViT:
    torch.manual_seed(0)
    net = EfficientViT().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


def pictures_of(clip):
    return [frame.planes for frame in ClipSource(clip).frames()]


def tags(clip):
    return {"matrix": clip.matrix, "full_range": clip.full_range}


def eyes_input(clip) -> torch.Tensor:
    """The first frame as eyes are shown it, RGB 0..1 (1, 3, H, W)."""
    picture = planar_frame(*pictures_of(clip)[0])
    rgb = frame_to_rgb(picture, **tags(clip), size=shown_size(clip.height, clip.width))
    return torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255


def on_grid(maps: list[torch.Tensor], clip) -> np.ndarray:
    size = (clip.height // 16, clip.width // 16)
    return torch.cat([F.interpolate(x, size, mode="bilinear", antialias=True)[0] for x in maps]).detach().numpy()


@pytest.mark.parametrize("size", [(64, 96), (192, 352)])
@pytest.mark.parametrize("features", ["neck", "backbone"])
def test_features_and_scores_are_those_of_the_network_in_torch(size, features):
    clip, eyes = make_scene(1, *size), nanodet(features)
    net = NanoDetPlus.from_onnx(PUBLISHED)
    images = Nanodet.feed.normalised(eyes_input(clip), torch)
    seen, scores, start = net.see(images), [], 0
    for stride in (8, 16, 32, 64):
        rows, columns = (math.ceil(side / stride) for side in images.shape[2:])
        scores.append(seen.answers[:, start : start + rows * columns, :80].amax(2).view(1, 1, rows, columns))
        start += rows * columns
    inner = [x * eyes.gains[features] for x in getattr(seen, features)]
    planes = eyes.planes(pictures_of(clip)[0], **tags(clip))
    assert planes.shape == (eyes.num_planes, clip.height // 16, clip.width // 16) and planes.dtype == np.float32
    expected = on_grid([*scores, *inner], clip)
    assert expected.std() > 0.1
    np.testing.assert_allclose(planes[1:], expected, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 96), (192, 352)])
def test_classes_and_features_are_those_of_the_segmenter_in_torch(size):
    clip, net = make_scene(1, *size), segmenter()
    eyes = EfficientViTEyes(to_onnx(net))
    seen = net.see(Normalise()(eyes_input(clip)))
    inner = [x * eyes.gains["backbone"] for x in seen.backbone[1:]]
    planes = eyes.planes(pictures_of(clip)[0], **tags(clip))
    assert planes.shape[0] == eyes.num_planes and planes[19:].std() > 0.01
    np.testing.assert_allclose(planes, on_grid([seen.logits.softmax(1), *inner], clip), atol=1e-4)


def test_a_graph_of_the_segmenter_is_valid_and_always_the_same():
    exported = to_onnx(segmenter())
    onnx.checker.check_model(onnx.load_from_string(exported), full_check=True)
    assert exported == to_onnx(segmenter()) and len(exported) < 8e6
    with pytest.raises(ConfigError, match="are an EfficientViT, got Linear"):
        to_onnx(torch.nn.Linear(1, 1))


def test_boxes_are_those_of_the_rules_detector(monkeypatch):
    """On noise the detector is unsure of everything, so doubtful boxes are let through."""
    monkeypatch.setattr(nanodet_plus_m, "SCORES", Scores(0.03, 0.04))
    rgb = make_noise(1, 192, 320).rgb(0)
    detector = load_detector(PUBLISHED, options=NetworkOptions(layout="nanodet"), threads=1)
    expected, boxes = detector.detect(rgb, least_score=0.03)[0], nanodet().look(rgb).boxes
    assert len(expected.scores) > 3
    for ours, theirs in zip(boxes, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (270, 480), (720, 1280), (1080, 608)])
def test_the_picture_is_reduced_as_for_the_rule(size):
    rule = ObjectStream(load_objects(), height=size[0], width=size[1], matrix="bt601", full_range=False)
    assert shown_size(*size) == rule._size


def test_maps_come_to_the_grid_by_the_place_of_their_cells():
    """A ramp stays a ramp, coarser or finer; the grid's last row reaches over the picture's edge."""
    ramp = (np.arange(40, dtype=np.float32) + 0.5)[None, :, None].repeat(3, 2) / 40
    coarser = to_grid(ramp, 160, 48)[0, :, 0]
    np.testing.assert_allclose(coarser[1:-1], ((np.arange(10) + 0.5) / 10)[1:-1], atol=1e-6)
    finer = to_grid(ramp, 1300, 48)[0, :, 0]
    assert len(finer) == 82 and finer[-1] == finer[-2] == ramp.max()
    np.testing.assert_allclose(finer[2:-2], ((np.arange(82) + 0.5) * 16 / 1300)[2:-2], atol=1e-6)


class Painter(NanoDetEyes):
    """Sees one object in the upper left corner of what it is shown, and counts its looks."""

    looks = 0

    def look(self, rgb: np.ndarray) -> Look:
        self.looks += 1
        corners = np.array([[0, 0, 0.5, 0.5]], np.float32)
        maps = [np.full((1, 2, 3), self.looks, np.float32) for _ in range(4)]
        return Look(Boxes(corners, np.array([0]), np.array([0.3], np.float32)), maps)


def test_boxes_are_painted_as_the_rule_does_and_a_turned_video_is_looked_at_upright():
    clip, eyes = make_scene(1, 64, 96), Painter(PUBLISHED.read_bytes(), features="none")
    upright = eyes.planes(pictures_of(clip)[0], **tags(clip))[0]
    expected = np.zeros((4, 6), np.float32)
    expected[:2, :3] = 0.5  # half way from unsure to sure
    np.testing.assert_allclose(upright, expected, atol=1e-6)
    turned = eyes.planes(pictures_of(clip)[0], **tags(clip), quarter_turns=1)[0]  # a player turns it anticlockwise
    assert turned[:2, 3:].min() > 0 and not turned[:, :3].any() and not turned[2:].any()


def lively(eyes, **how) -> ControlNetwork:
    torch.manual_seed(0)
    network = ControlNetwork(width=8, gop=4, extra_planes=eyes.num_planes, eyes=eyes.settings, **how).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    return network


@pytest.mark.parametrize("kbps", [20.0, 60.0])
def test_a_deployed_control_decides_what_torch_decides_of_the_same_planes(kbps):
    """At a rate that it was trained at and one that it was not."""
    clip, eyes = make_scene(8), nanodet("neck")
    size = {"fps": clip.fps, "height": clip.height, "width": clip.width}
    least = units.kbps_to_bits_per_pixel(40.0, **size)
    network = lively(eyes, rates=[least, 10 * least])
    network.prior.coefficients[1:] = 0  # a stream does not know the frames to come
    small = np.stack([reduced_planes(*picture, **tags(clip)) for picture in pictures_of(clip)])
    planes = torch.from_numpy(np.stack([eyes.planes(picture, **tags(clip)) for picture in pictures_of(clip)]))
    told = math.log(max(least, units.kbps_to_bits_per_pixel(kbps, **size)))
    with torch.no_grad():
        given = torch.from_numpy(small)[None], torch.tensor([told])
        delta = network.delta_qp(*given, network.prior(*given), planes=planes[None])
    expected = centred(mean_so_far(delta, gop=4))[0].numpy()
    control = deploy(network)
    stream = LearnedOffsets(control, ClipSource(clip), kbps, X264(gop=4)).stream
    decided = np.concatenate([stream.decide(small[i : i + 4], pictures_of(clip)[i : i + 4]) for i in (0, 4)])
    assert np.abs(expected).max() > 1 and told_rate(control, 1e-9) == least
    np.testing.assert_allclose(decided, expected, atol=1e-3)
    given = LearnedOffsets(control, ClipSource(clip), kbps, X264(gop=4)).generate(ClipSource(clip).frames())
    np.testing.assert_array_equal([offsets for _, offsets in given], np.rint(decided))


def test_what_is_seen_is_held_until_the_next_look():
    clip, eyes = make_scene(8), Painter(PUBLISHED.read_bytes(), features="none", every=3)
    control = deploy(lively(eyes))
    seen = []
    control.eyes = eyes
    control.delta_qp = lambda small, previous, *, planes, **_: seen.append(planes) or np.zeros((len(small), 4, 6), np.float32)
    stream = ControlStream(control, 60.0, fps=clip.fps, height=64, width=96, **tags(clip), gop=4)
    small = np.stack([reduced_planes(*picture, **tags(clip)) for picture in pictures_of(clip)])
    for start, stop in ((0, 1), (1, 4), (4, 8)):
        stream.decide(small[start:stop], pictures_of(clip)[start:stop])
    assert np.concatenate(seen)[:, 1, 0, 0].tolist() == [1, 1, 1, 2, 3, 3, 3, 4]  # at the first and fourth of each GOP


def test_values_inside_a_file_become_outputs_without_parsing_it():
    model = PUBLISHED.read_bytes()
    names = tuple(str(value) for value in range(900, 960))  # more than 127 bytes
    assert [value.name for value in onnx.load_from_string(with_outputs(model, names)).graph.output] == ["output", *names]
    assert with_outputs(model, ()) == model


def test_unknown_eyes_and_features_are_said(tmp_path):
    with pytest.raises(ConfigError, match=f"no eyes 'yolo': choose among {', '.join(EYES)}"):
        make_eyes("yolo", features=None, every=1, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"eyes\.features of nanodet_plus_m are neck, backbone, none, got 'stem'"):
        make_eyes("nanodet_plus_m", features="stem", every=1, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"eyes\.features=neck needs eyes"):
        make_eyes("none", features="neck", every=1, folder=tmp_path)
    assert make_eyes("none", features=None, every=1, folder=tmp_path) is None


def test_a_control_finds_its_own_eyes_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr("dvcc.control.eyes.CHECKPOINTS", tmp_path / "published")  # which holds others of the same name
    eyes = EfficientViTEyes(to_onnx(segmenter()))
    (tmp_path / "control.onnx").write_bytes(control_to_onnx(lively(eyes), {}))
    with pytest.raises(CheckpointError, match=r"control\.onnx sees through efficientvit_b0\.onnx, which is not beside it"):
        load_control(tmp_path / "control.onnx")
    torch.manual_seed(1)
    (tmp_path / eyes.file).write_bytes(to_onnx(EfficientViT().eval()))
    with pytest.raises(CheckpointError, match=r"is another file than the one that .*control\.onnx takes"):
        load_control(tmp_path / "control.onnx")
    (tmp_path / eyes.file).write_bytes(to_onnx(segmenter()))
    assert load_control(tmp_path / "control.onnx").eyes.settings == eyes.settings
    with pytest.raises(CheckpointError, match="was trained with eyes 'yolo', and this dvcc has nanodet_plus_m, efficientvit_b0"):
        load_eyes({**eyes.settings, "name": "yolo"}, control="control.onnx")


def test_a_clip_is_looked_at_once(tmp_path, monkeypatch):
    class Samples:
        clips = [make_scene(2)]  # noqa: RUF012
        store = SampleStore(tmp_path)

        def digest(self, clip):
            return self.clips[clip].digest

    planes = ClipPlanes(nanodet("neck"), Samples())
    fill_samples(planes, engine="processes", workers=1)
    expected = nanodet("neck").clip_planes(Samples.clips[0])
    monkeypatch.setattr(NanoDetEyes, "look", lambda *_: pytest.fail("looked again"))
    again = ClipPlanes(nanodet("neck"), Samples())
    np.testing.assert_array_equal(again(0).numpy(), expected.astype(np.float32))
    assert again.of(torch.tensor([0, 0])).shape == (2, *expected.shape)
    with pytest.raises(pytest.fail.Exception, match="looked again"):
        ClipPlanes(nanodet("backbone"), Samples())(0)
