"""A control that sees an analysis encode: where the task's network has lost its answer when x264 codes by itself."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dvcc.codecs import ABR, X264
from dvcc.codecs.passes import Memory, encode
from dvcc.config.build import build_task
from dvcc.control import module
from dvcc.control import training as control
from dvcc.control.analysis import NUM_PLANES, analysis_planes
from dvcc.control.deployed.runtime import load_control
from dvcc.control.network import ControlNetwork, load_network
from dvcc.errors import ConfigError
from dvcc.media.format import ClipSource
from dvcc.pixels import as_float
from dvcc.rate_control import Means, build_rate_controller
from dvcc.rate_control.analysed import AnalysedControl, Analysis
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.rate_control.task_reader import TaskReader
from dvcc.surrogate import load_surrogate
from dvcc.surrogate.base import log_coding_error
from dvcc.surrogate.judged import macroblock_degradation
from dvcc.tasks import OpticalFlowTask
from tests.conftest import make_scene
from tests.training.conftest import configure, losses, samples_of


def test_planes_say_what_a_macroblock_has_lost_beside_the_others():
    degradation = np.full((4, 2, 2), 0.1)
    degradation[:2, 0, 0] = (0.2, 0.6)  # 0.4 over the first GOP, of a mean of 0.175
    planes = analysis_planes(degradation, np.full((4, 2, 2), -4.0), gop=2)
    assert planes.shape == (4, NUM_PLANES, 2, 2) and planes.dtype == np.float32
    np.testing.assert_allclose(planes[0], planes[1])  # a GOP has the same
    np.testing.assert_allclose(planes[0, 0, 0, 0], np.sqrt(0.4 / 0.175) - 1, rtol=1e-5)
    np.testing.assert_allclose(planes[0, 1, 0, 0], 0.4 / 0.175 / 2 - 0.5, rtol=1e-5)
    assert not planes[2:].any() and not planes[:, 2].any()
    nothing = analysis_planes(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), gop=8)
    assert np.isfinite(nothing).all() and (nothing[0, 0] == -1).all()


@pytest.fixture(scope="module")
def analysed(tiny, trained, tmp_path_factory):
    """A control that was taught by descents: its file, and how it was configured."""
    out = tmp_path_factory.mktemp("analysed")
    words = ["task=reconstruction", f"surrogate={trained}", "teacher.surrogate=0", "teacher.ladder=1", "control.analysis=true"]
    words += ["trainer.max_steps=40", "learning_rate=0.03", "control.blur_sigma=0", f"data.cache={out}/cache"]
    config = configure("control", [*tiny, "data.crops_per_clip=1", "data.max_clips=2"], out, *words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dvcc.control.descent._STEPS", 10)  # enough to be a descent
        return control.run(config), config


def test_a_control_learns_what_descents_say_of_an_analysis(analysed):
    path, _ = analysed
    told = list(losses(path.parent, term="ladder").values())
    assert sum(told[-10:]) < 0.6 * sum(told[:10])


def test_offsets_come_from_what_the_task_has_lost_in_a_real_encode(analysed):
    path, config = analysed
    runnable, clip, task = load_control(path), samples_of(config).clips[0], build_task(config.task).eval()
    assert runnable.analysis and runnable.reader is None and runnable.extra_planes == NUM_PLANES
    controller = build_rate_controller("learned", Means(control=runnable, task=task))
    coded = controller.encode(clip, 150.0)
    plain = X264().encode(clip, ABR(150.0))
    assert coded.num_encodes == 2 * plain.num_encodes
    # As the network itself decides, from looks at some frames.
    before, after = (as_float(frames) for frames in (clip.frames, plain.frames))
    degradation = macroblock_degradation(task, after, task.predict(before))
    planes = analysis_planes(degradation.numpy(), log_coding_error(after, before).numpy(), gop=8)
    network, _ = load_network(path.with_suffix(".safetensors"))
    log_bpp = torch.tensor([150e3 / float(clip.fps) / clip.height / clip.width]).log()
    with torch.no_grad():
        offsets = network.offsets(clip.frames[None], log_bpp, planes=torch.from_numpy(planes)[None])[0].numpy()
    assert offsets.std() > 0.3
    watch = Analysis(TaskReader(task), ClipSource(clip), 8, path.parent / "planes")
    assert X264().encode(clip, ABR(150.0)).bits == encode(X264(), ClipSource(clip), ABR(150.0), Memory(), watch=watch).bits
    seen = np.stack(list(watch.planes()))
    assert seen.shape == planes.shape and np.corrcoef(seen.ravel(), planes.ravel())[0, 1] > 0.9
    decided = LearnedOffsets(runnable, ClipSource(clip), 150.0, X264(), analysis=iter(planes))
    asked = np.stack([values for _, values in decided.generate(ClipSource(clip).frames())])
    assert np.abs(asked - offsets).max() < 1.0  # rounded, from the planes instead of RGB


def test_the_encode_in_which_less_is_lost_is_kept(analysed, monkeypatch):
    path, config = analysed
    clip, task = samples_of(config).clips[0], build_task(config.task).eval()
    controller = AnalysedControl(load_control(path), X264(), TaskReader(task))
    plain, kept = X264().encode(clip, ABR(150.0)), []
    for means in ((1.0, 2.0), (2.0, 1.0)):  # of x264's own encode, and of the other
        given = {True: means[0], False: means[1]}
        monkeypatch.setattr(Analysis, "mean", lambda self, given=given: given[self._path is not None])
        into = Memory()
        kept.append((controller.encode(clip, 150.0, into), into.decided))
    assert kept[0][0].bitstream == plain.bitstream != kept[1][0].bitstream
    assert "own encode kept" in kept[0][1] and "50 % less" in kept[1][1]


def test_a_control_goes_on_from_another(analysed, tiny, tmp_path):
    path, config = analysed
    start = path.with_suffix(".safetensors")
    words = ["task=reconstruction", f"surrogate={config.surrogate}", "teacher.surrogate=0", "teacher.ladder=1"]
    words += [f"data.cache={config.data.cache}", "data.crops_per_clip=1", "data.max_clips=2", "control.blur_sigma=0"]
    words += [f"start={start}", "trainer.max_steps=1", "learning_rate=1e-9"]
    gone_on = control.run(configure("control", tiny, tmp_path, *words, "control.analysis=true"))
    before, after = (load_network(file)[0] for file in (start, gone_on.with_suffix(".safetensors")))
    for a, b in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"set the same control"):
        control.run(configure("control", tiny, tmp_path / "other", *words))


def test_what_cannot_read_an_analysis_is_refused(analysed):
    path, config = analysed
    runnable, clip = load_control(path), samples_of(config).clips[0]
    with pytest.raises(ConfigError, match="sees an analysis encode"):
        build_rate_controller("learned_vbv", Means(control=runnable)).encode(clip, 150.0)
    with pytest.raises(ConfigError, match="need a task"):
        build_rate_controller("learned", Means(control=runnable))
    with pytest.raises(ConfigError, match="not beside it"):
        AnalysedControl(runnable, X264())
    with pytest.raises(ConfigError, match="compares 2 neighbouring frames, and a GOP has 1: set gop higher"):
        Analysis(TaskReader(OpticalFlowTask()), ClipSource(clip), 1)


@pytest.mark.parametrize("count", [8, 9])
def test_a_task_of_pairs_reads_pairs_of_neighbouring_frames(tmp_path, count):
    """Two looks of a GOP of 8 at 10 frames a second: frames 0 and 1, 5 and 6. A last GOP of one frame has the planes before."""
    clip, task = replace(make_scene(count), fps=Fraction(10)), OpticalFlowTask().eval()
    watch = Analysis(TaskReader(task), ClipSource(clip), 8, tmp_path / "planes")
    coded = encode(X264(), ClipSource(clip), ABR(100.0), Memory(), watch=watch).frames
    before, after = (as_float(frames) for frames in (clip.frames, coded))
    lost = []
    for first in (0, 5):
        pair = slice(first, first + 2)
        with torch.no_grad():
            degradation = macroblock_degradation(task, after[pair], task.predict(before[pair])).mean(0)
        lost.append((degradation.numpy(), log_coding_error(after[pair], before[pair]).mean(0).numpy()))
    expected = analysis_planes(*(np.stack(parts) for parts in zip(*lost, strict=True)), gop=2)[0]
    seen = np.stack(list(watch.planes()))
    assert len(seen) == count and (seen == seen[0]).all()
    assert np.corrcoef(seen[0].ravel(), expected.ravel())[0, 1] > 0.98  # from the planes of 4:2:0 instead of RGB
    assert watch.mean() == pytest.approx(np.mean([degradation for degradation, _ in lost]), rel=0.05)


def test_a_training_sees_what_the_ladder_lost_at_x264s_own_qps(tiny, trained, tmp_path):
    config = configure("control", [*tiny, "data.crops_per_clip=1"], tmp_path, "task=reconstruction", f"surrogate={trained}")
    samples, task = samples_of(config, baselines=2), build_task(config.task)
    network = ControlNetwork(width=8, extra_planes=NUM_PLANES, analysis={})
    teachers = module.Teachers(load_surrogate(trained)[0])
    stage = module.ControlModule(network, teachers, task, samples, rates_per_clip=3, learning_rate=1e-3)
    seen = stage.clip_cache(0).seen
    qp = samples.without_pixels(0)["baseline_qp"]
    assert seen.shape == (2, len(qp[0]), NUM_PLANES, *qp.shape[2:]) and seen.isfinite().all()
    assert seen[0, :, 2].mean() > seen[1, :, 2].mean()  # the lower rate comes first: larger errors
    terms, _, delta = stage.step(default_collate([{"clip": torch.tensor(0), "frames": samples[0]["frames"]}]))
    assert delta.shape == (3, *qp.shape[1:]) and terms.total.isfinite().all()


def test_boxes_alone_have_no_analysis(tiny, tmp_path):
    words = ["task=detection", "task.model=student", "teacher.surrogate=0", "teacher.boxes=1", "control.analysis=true"]
    config = configure("control", tiny, tmp_path, *words)
    with pytest.raises(ConfigError, match=r"control\.analysis=true .*teacher\.surrogate"):
        control.run(config)
    assert replace(config.control, analysis=False).analysis is False
