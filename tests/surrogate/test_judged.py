"""The judged ladder: the task's real losses of real encodes, and what a surrogate reads off it."""

import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264
from dvcc.codecs.cache import EncodeCache
from dvcc.surrogate import SURROGATES, build_surrogate, judged, one_hot_qp
from dvcc.surrogate.judged import Judge, JudgedLadders, imitated_loss, judge_ladder
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks import build_task
from dvcc.tasks.identity import task_key
from tests.conftest import make_scene

QPS = (16, 24, 32, 40, 48)
GRID = (8, 6, 8)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    samples = LadderSamples(
        [make_scene(seed=seed, height=96, width=128) for seed in (0, 1)],
        codec=X264(),
        cache=EncodeCache(tmp_path_factory.mktemp("cache")),
        qps=QPS,
    )
    return default_collate([samples[0], samples[1]])


JUDGES = [
    ("segmentation", "student"),
    ("reconstruction", "psnr"),
    ("reconstruction", "ssim"),
    ("optical_flow", "ours"),
    ("classification", "tiny"),
]


@pytest.fixture(params=JUDGES, ids="-".join)
def task(request, classifier):
    name, model = request.param
    return build_task(name, model=model).eval().requires_grad_(False)


def test_the_degradation_of_a_rung_adds_up_to_the_tasks_loss(task, sample):
    degradation = judge_ladder(task, sample)
    assert degradation.shape == (2, 5, *GRID)
    for clip in range(2):
        reference = task.predict(sample["frames"][clip])[None]
        for rung in range(5):
            loss = task.loss(task.predict(sample["ladder_frames"][clip, rung])[None], reference)
            of_mean = task.loss_of(degradation[clip : clip + 1, rung].mean((1, 2, 3)))
            torch.testing.assert_close(of_mean, loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_surrogate_reads_the_ladder_or_says_that_it_does_not(name, sample):
    surrogate = build_surrogate(name, qps=QPS, gop=8, width=8).eval()
    qp = one_hot_qp(torch.full((2, *GRID), 30))
    with_degradation = {**sample, "ladder_degradation": torch.ones(2, 5, *GRID)}
    assert surrogate(sample, qp).degradation is None
    degradation = surrogate(with_degradation, qp).degradation
    assert (degradation is not None) == surrogate.reads_ladder
    if degradation is not None:
        torch.testing.assert_close(degradation, torch.ones(2))  # the same everywhere: nothing else can come out


def test_the_loss_falls_where_the_degradation_is_and_for_what_others_are_copied_from(sample):
    """Damage in the left half only, growing with the QP: finer QPs help there, most in the I frame."""
    surrogate = build_surrogate("anchored", qps=QPS, gop=8, width=8).eval()
    slope = torch.tensor([float(qp) for qp in QPS])[None, :, None, None, None].expand(2, -1, *GRID).clone()
    slope[..., 4:] = 3.0
    qp = one_hot_qp(torch.full((2, *GRID), 32)).requires_grad_()
    predicted = surrogate.predict(surrogate.analyse({**sample, "ladder_degradation": slope}), qp, frame_numbers=[])
    assert predicted.frames.shape[1] == 0  # no picture is needed
    task = build_task("reconstruction", model="ssim")
    (gradient,) = torch.autograd.grad(imitated_loss(task, predicted, None).sum(), qp)
    per_qp = (gradient * torch.linspace(-1, 1, 52)).sum(-1)  # along a rising QP
    assert (per_qp[..., :3] > 0).all() and per_qp[..., 6:].abs().max() < 0.05 * per_qp[..., :3].mean()
    assert (per_qp[:, 0, :, :3].mean() > 1.1 * per_qp[:, 1:, :, :3].mean((0, 2, 3))).all()


def test_maps_of_one_clip_read_its_own_degradation(sample):
    surrogate = build_surrogate("anchored", qps=QPS, gop=8, width=8).eval()
    degradations = torch.cat([torch.full((1, 5, *GRID), value) for value in (1.0, 2.0)])
    qp = one_hot_qp(torch.randint(20, 44, (4, *GRID), generator=torch.Generator().manual_seed(0)))
    degradation = surrogate.predict(
        surrogate.analyse({**sample, "ladder_degradation": degradations}), qp, frame_numbers=[]
    ).degradation
    torch.testing.assert_close(degradation, torch.tensor([1.0, 1.0, 2.0, 2.0]))


@pytest.mark.parametrize("name", SURROGATES)
def test_an_analysis_without_pixels_says_the_same_of_bits_and_degradation(name, sample):
    surrogate = build_surrogate(name, qps=QPS, gop=8, width=8).eval()
    degradations = torch.rand(2, 5, *GRID, generator=torch.Generator().manual_seed(0))
    analysis = surrogate.analyse({**sample, "ladder_degradation": degradations})
    qp = one_hot_qp(torch.randint(20, 44, (4, *GRID), generator=torch.Generator().manual_seed(1)))
    whole, small = (surrogate.predict(a, qp, frame_numbers=[]) for a in (analysis, surrogate.without_pixels(analysis)))
    torch.testing.assert_close(small.log_bits, whole.log_bits)
    if surrogate.reads_ladder:
        torch.testing.assert_close(small.degradation, whole.degradation)
        kept = [value for value in vars(surrogate.without_pixels(analysis)).values() if isinstance(value, torch.Tensor)]
        assert sum(value.numel() for value in kept) < sample["frames"].numel()


def test_a_judge_remembers_what_it_said_of_every_group(tmp_path):
    samples = LadderSamples(
        [make_scene(height=32, width=48)],
        codec=X264(),
        cache=EncodeCache(tmp_path),
        qps=QPS,
        maps_per_clip=3,
        groups=2,
        maps_with_frames=3,
    )
    batch = default_collate([samples[0], samples[1]])
    task = build_task("reconstruction", model="psnr")
    judge = Judge(task)
    first = judge.losses(batch)
    for clip in range(2):
        for place in range(3):
            alone = task.loss(batch["coded_frames"][clip, place][None].float() / 255, batch["frames"][clip][None].float() / 255)
            torch.testing.assert_close(first[clip, place], alone[0])
    assert not torch.equal(first[0], first[1])
    black = {**batch, "coded_frames": torch.zeros_like(batch["coded_frames"])}
    torch.testing.assert_close(judge.losses(black), first)  # not judged again
    torch.testing.assert_close(judge.with_degradation(batch)["ladder_degradation"], judge_ladder(task, batch))


def test_verdicts_are_kept_per_task_and_judged_again_when_damaged(tmp_path, monkeypatch):
    samples = LadderSamples([make_scene(height=32, width=48)], codec=X264(), cache=EncodeCache(tmp_path), qps=QPS)
    sample = default_collate([samples[0]])
    asked = []
    monkeypatch.setattr(judged, "judge_ladder", lambda task, s: asked.append(task.metric_name) or judge_ladder(task, s))
    psnr, ssim = (build_task("reconstruction", model=model) for model in ("psnr", "ssim"))
    expected = judge_ladder(psnr, sample)
    for _ in range(2):
        torch.testing.assert_close(JudgedLadders(psnr, samples).degradation(0, sample), expected, rtol=0, atol=0)
    assert len(asked) == 1
    assert not torch.equal(JudgedLadders(ssim, samples).degradation(0, sample), expected) and len(asked) == 2
    for path in (tmp_path / "judged").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    torch.testing.assert_close(JudgedLadders(psnr, samples).degradation(0, sample), expected, rtol=0, atol=0)
    assert len(asked) == 3


def test_a_tasks_key_is_of_its_weights():
    first, second = (build_task("segmentation", model="student") for _ in range(2))
    assert task_key(first) == task_key(second)
    next(second.net.parameters()).data.add_(1e-3)
    assert task_key(first) != task_key(second)
