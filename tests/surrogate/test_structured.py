"""The layers of the structured surrogate against the standard's numbers, and their gradients in float64."""

import pytest
import torch

from dvcc.errors import ConfigError
from dvcc.surrogate import build_surrogate, one_hot_qp
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.structured.deblocking import clipping, deblock, thresholds
from dvcc.surrogate.structured.entropy import COUNTED, Counted, EntropyModel, count_levels, luma_bands
from dvcc.surrogate.structured.motion import block_motion, moved, upsample
from dvcc.surrogate.structured.planes import ResidualCoder
from dvcc.surrogate.structured.prediction import IntraModes, rgb_difference, to_planes
from dvcc.surrogate.structured.transform import basis, chroma_qp, nested_basis, quantise, to_blocks, to_plane
from dvcc.surrogate.transform import quantizer_step
from tests.conftest import make_scene

# ITU-T H.264, 8.5.9: LevelScale of QP % 6, by class of the coefficient's place.
_SCALE_4 = [(10, 16, 13), (11, 18, 14), (13, 20, 16), (14, 23, 18), (16, 25, 20), (18, 29, 23)]
_SCALE_8 = [
    (20, 18, 32, 19, 25, 24),
    (22, 19, 35, 21, 28, 26),
    (26, 23, 42, 24, 33, 31),
    (28, 25, 45, 26, 35, 33),
    (32, 28, 51, 30, 40, 38),
    (36, 32, 58, 34, 46, 43),
]


def inverse_4(w: torch.Tensor) -> torch.Tensor:
    """The standard's inverse transform of a block (8.5.12.2), without its rounding."""
    for _ in range(2):
        w = w.T
        e = w[0] + w[2], w[0] - w[2], w[1] / 2 - w[3], w[1] + w[3] / 2
        w = torch.stack([e[0] + e[3], e[1] + e[2], e[1] - e[2], e[0] - e[3]])
    return w / 64


def inverse_8(w: torch.Tensor) -> torch.Tensor:
    """8.5.13."""
    for _ in range(2):
        w = w.T
        a = [w[0] + w[4], -w[3] + w[5] - w[7] - w[7] / 2, w[0] - w[4], w[1] + w[7] - w[3] - w[3] / 2]
        a += [w[2] / 2 - w[6], -w[1] + w[7] + w[5] + w[5] / 2, w[2] + w[6] / 2, w[3] + w[5] + w[1] + w[1] / 2]
        b = [a[0] + a[6], a[1] + a[7] / 4, a[2] + a[4], a[3] + a[5] / 4]
        b += [a[2] - a[4], a[3] / 4 - a[5], a[0] - a[6], a[7] - a[1] / 4]
        w = torch.stack([b[0] + b[7], b[2] + b[5], b[4] + b[3], b[6] + b[1], b[6] - b[1], b[4] - b[3], b[2] - b[5], b[0] - b[7]])
    return w / 64


def scale(side: int, qp: int, i: int, j: int) -> float:
    """What a level of 1 is before the inverse transform."""
    if side == 4:
        place = 0 if i % 2 == 0 and j % 2 == 0 else 1 if i % 2 and j % 2 else 2
        return _SCALE_4[qp % 6][place] * 2.0 ** (qp // 6)
    if i % 4 == 0 and j % 4 == 0:
        place = 0
    elif i % 2 and j % 2:
        place = 1
    elif i % 4 == 2 and j % 4 == 2:
        place = 2
    elif (i % 4 == 0 and j % 2) or (i % 2 and j % 4 == 0):
        place = 3
    else:
        place = 4 if (i % 4 == 0 and j % 4 == 2) or (i % 4 == 2 and j % 4 == 0) else 5
    return 16 * _SCALE_8[qp % 6][place] * 2.0 ** (qp / 6 // 1 - 6)


@pytest.mark.parametrize("side, inverse, tolerance", [(4, inverse_4, 0.045), (8, inverse_8, 0.065)])
def test_a_level_is_worth_what_the_standard_makes_of_it(side, inverse, tolerance):
    rows = basis(side).view(side * side, side, side)
    torch.testing.assert_close(basis(side) @ basis(side).T, torch.eye(side * side, dtype=torch.float64))
    for qp in (0, 23, 34, 51):
        step = float(quantizer_step(torch.tensor(float(qp), dtype=torch.float64))) * 255
        for place in range(side * side):
            levels = torch.zeros(side, side, dtype=torch.float64)
            levels[place // side, place % side] = scale(side, qp, place // side, place % side)
            picture = inverse(levels)
            gain = float((picture * rows[place]).sum())
            torch.testing.assert_close(picture, gain * rows[place], atol=1e-9, rtol=0)  # the same basis picture
            assert gain == pytest.approx(step, rel=tolerance), (qp, place)  # the tables are whole numbers
    dc = torch.zeros(side, side, dtype=torch.float64)
    dc[0, 0] = scale(side, 16, 0, 0)  # QP 4, 10, 16: steps of 1, 2, 4
    assert float((inverse(dc) * rows[0]).sum()) == pytest.approx(4.0)


def test_blocks_there_and_back_and_steps_that_double():
    plane = torch.rand(2, 32, 48, dtype=torch.float64)
    for side in (4, 8, 16):
        blocks = to_blocks(plane, macroblock=16, side=side)
        torch.testing.assert_close(to_plane(blocks, macroblock=16, side=side), plane)
    for side in (8, 16):
        nested = nested_basis(side)
        torch.testing.assert_close(nested @ nested.T, torch.eye(side * side, dtype=torch.float64))
        torch.testing.assert_close(nested[0], torch.full((side * side,), 1 / side, dtype=torch.float64))
    qp = torch.arange(46.0, dtype=torch.float64)
    torch.testing.assert_close(quantizer_step(qp + 6), 2 * quantizer_step(qp))


def test_chroma_qps_are_the_standards():
    """Table 8-15, and a slope between."""
    qps = torch.arange(52.0, dtype=torch.float64)
    tail = [29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39]
    assert chroma_qp(qps, offset=0).tolist() == [*range(30), *tail]
    assert chroma_qp(torch.tensor([0.0, 30.0, 51.0])).tolist() == [0, 28, 39]
    between = torch.linspace(3.3, 50.3, 17, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(chroma_qp, (between,))


def test_levels_and_the_gradient_through_rounding():
    torch.manual_seed(0)
    c = 0.3 * torch.randn(1, 1, 1, 1, 400, dtype=torch.float64)
    dead = torch.tensor(1 / 6, dtype=torch.float64)
    qp = torch.full((1, 1, 1), 30.0, dtype=torch.float64, requires_grad=True)
    levels, kept = quantise(c, qp, dead)
    step = float(quantizer_step(qp.detach()))
    assert torch.equal(levels, torch.floor(c.abs() / step + 0.5 - dead)) and levels.max() > 3
    torch.testing.assert_close(kept, c.sign() * levels * step)
    (slope,) = torch.autograd.grad(kept.square().sum(), qp)

    def same_levels(at: float) -> torch.Tensor:
        """What a coefficient's own change of scale leaves: its rounding stays what it was."""
        size = torch.relu(c.abs() / quantizer_step(torch.tensor(at, dtype=torch.float64)) - dead)
        rounding = (levels - torch.relu(c.abs() / step - dead)).detach()
        return ((size + rounding) * quantizer_step(torch.tensor(at, dtype=torch.float64))).square().sum()

    difference = (same_levels(30 + 1e-5) - same_levels(30 - 1e-5)) / 2e-5
    assert float(slope) == pytest.approx(float(difference.detach()), rel=1e-5)


def test_noise_instead_of_rounding_has_the_exact_gradient():
    c = 0.3 * torch.randn(1, 1, 1, 1, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def reconstructed(qp: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return quantise(c, qp, torch.zeros((), dtype=torch.float64), noise=True)[1]

    qp = torch.full((1, 1, 1), 20.0, dtype=torch.float64, requires_grad=True)  # fine: levels far from 0
    c = c.sign() * (c.abs() + 0.1)
    assert torch.autograd.gradcheck(reconstructed, (qp,))
    error = (reconstructed(qp) - c).detach() / quantizer_step(qp.detach())
    assert error.abs().max() <= 0.5 and error.std() > 0.2


def test_thresholds_are_near_the_standards_tables():
    """Tables 8-16 and 8-17 at a few indices."""
    qp = torch.tensor([16.0, 24, 30, 37, 44, 51])
    alpha, beta = (255 * x for x in thresholds(qp))
    torch.testing.assert_close(alpha, torch.tensor([4.0, 13, 25, 56, 127, 255]), rtol=0.15, atol=1.0)
    torch.testing.assert_close(beta, torch.tensor([2.0, 4, 8, 11, 15, 18]), rtol=0.12, atol=1.0)
    assert not any(x.any() for x in thresholds(torch.tensor([15.0])))
    limits = [[255 * float(clipping(torch.tensor(q), torch.tensor(s))) for s in (1.0, 2.0, 3.0)] for q in (37.0, 51.0)]
    torch.testing.assert_close(torch.tensor(limits), torch.tensor([[3.0, 4, 6], [13, 17, 25]]), rtol=0.1, atol=0.8)


@pytest.mark.parametrize("side", [4, 8])
def test_deblocking_smooths_edges_of_coarse_blocks_only(side):
    steps = 0.02 * torch.arange(4.0, dtype=torch.float64).repeat_interleave(side)
    plane = (0.4 + steps + steps[:, None])[None]
    grid = torch.ones(1, 4, 4, dtype=torch.float64)

    def filtered(qp: torch.Tensor, strength: float) -> torch.Tensor:
        return deblock(plane, qp=qp, strength_x=strength * grid, strength_y=strength * grid, side=side)

    def jump(x: torch.Tensor) -> float:
        return float((x[0, :, side] - x[0, :, side - 1]).abs().mean())

    torch.testing.assert_close(filtered(12 * grid, 4), plane)  # below 16 the standard filters nothing
    torch.testing.assert_close(filtered(44 * grid, 0), plane)
    assert all(jump(filtered(44 * grid, strength)) < 0.8 * jump(plane) for strength in (2, 4))
    torch.testing.assert_close(filtered(44 * grid, 4).mean(), plane.mean(), atol=1e-3, rtol=0)
    qp = torch.linspace(26.2, 43.1, 16, dtype=torch.float64).view(1, 4, 4).requires_grad_()
    for strength in (2.0, 4.0):
        assert torch.autograd.gradcheck(lambda q, s=strength: (filtered(q, s) * plane.cumsum(1)).sum(), (qp,))


def test_intra_modes_continue_what_is_around():
    for modes in (IntraModes(4), IntraModes(8), IntraModes(16), IntraModes(8, few=True)):
        torch.testing.assert_close(modes.weights.sum(-1), torch.ones(modes.weights.shape[:2]), atol=1e-5, rtol=0)
        flat = torch.full((1, 32, 32), 0.5)
        torch.testing.assert_close(modes(flat), torch.full_like(modes(flat), 0.5))
        rows = torch.rand(1, 32, 1).expand(-1, -1, 32)
        choice = torch.ones(1, 32 // modes.side, 32 // modes.side).long()
        torch.testing.assert_close(modes.chosen(rows, choice)[..., modes.side :], rows[..., modes.side :])
    ramp = (torch.arange(48.0)[:, None] + torch.arange(48.0))[None] / 100
    diagonal, plane = IntraModes(8), IntraModes(16)
    inside = slice(16, 32)
    planar = plane.chosen(ramp, torch.full((1, 3, 3), 3))
    torch.testing.assert_close(planar[:, inside, inside], ramp[:, inside, inside], atol=0.006, rtol=0)
    along = diagonal.chosen(ramp, torch.full((1, 6, 6), 3))  # down and to the left a ramp of this kind does not change
    torch.testing.assert_close(along[:, 16:24, 16:24], ramp[:, 16:24, 16:24], atol=0.006, rtol=0)


def test_motion_is_found_to_the_quarter():
    luma = make_scene(frames=1, height=96, width=160, seed=3).frames[:, 0].float() / 255
    halves = upsample(luma)
    torch.testing.assert_close(halves[:, ::2, ::2], luma)
    for x, y in ((5.0, -3.0), (-18.0, 12.0), (2.25, -0.5)):
        vectors = torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 12, 20)
        target = moved(halves[:, None], vectors, scale=2)[:, 0]
        fields = block_motion(target, luma)
        found = moved(halves[:, None], fields.vectors[:, 0], scale=2)[:, 0]
        assert (found - target)[:, 24:-24, 24:-24].abs().mean() < 0.1 * (luma - target)[:, 24:-24, 24:-24].abs().mean()
    errors = []
    for qp in (0.0, 51.0):
        chosen = moved(halves[:, None], fields.at(torch.full((1, 6, 10), qp)), scale=2)[:, 0]
        errors.append(float((chosen - target).abs().mean()))
    assert errors[0] < errors[1]  # vectors that cost bits are for fine quantisers


def test_more_and_larger_levels_cost_more_bits():
    levels = torch.zeros(1, 2, 2, 4, 64)
    levels[0, 0, 0, 0, 0], levels[0, 1, 1, 2, 63] = 1, 4
    counts = count_levels(levels, luma_bands(8), 4)
    assert counts[0, 0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0] and counts[0, 1, 1].tolist() == [0, 0, 0, 1, 0, 0, 0, 2]
    model, grid = EntropyModel(8), torch.zeros(1, 2, 2)
    full = torch.zeros(1, COUNTED, 2, 2)
    full[:, :8] = counts.movedim(-1, 1)
    bits = model.macroblocks(Counted(full, 30 + grid, torch.tensor([1]), grid, grid, grid))[0]
    assert bits[0, 1] < bits[0, 0] < bits[1, 1] and bits[0, 1] < 2


def test_macroblocks_are_coded_each_as_it_would_be_alone():
    """Only the transform that is chosen is quantised: as if all were, and one taken."""
    torch.manual_seed(2)
    residual = 0.05 * torch.randn(2, 48, 64, dtype=torch.float64)
    coder, qp = ResidualCoder().double(), (20 + 20 * torch.rand(2, 3, 4, dtype=torch.float64)).requires_grad_()
    kind, side = torch.tensor([1, 2]), torch.tensor([0, 4, 8, 16]).repeat(6).view(2, 3, 4)
    intra = (side > 0).double()
    mixed = coder.luma(residual, qp, kind, intra, side)
    (gradient,) = torch.autograd.grad(mixed.plane.square().sum(), qp)
    for s in (0, 4, 8, 16):
        alone = coder.luma(residual, qp, kind, intra, torch.full_like(side, s))
        here = side == s
        assert torch.equal(mixed.counts.movedim(1, -1)[here], alone.counts.movedim(1, -1)[here])
        assert torch.equal(mixed.levels[here], alone.levels[here])
        pixels = here.repeat_interleave(16, 1).repeat_interleave(16, 2)
        torch.testing.assert_close(mixed.plane[pixels], alone.plane[pixels], rtol=0, atol=1e-15)
        (other,) = torch.autograd.grad(alone.plane.square().sum(), qp)
        torch.testing.assert_close(gradient[here], other[here], rtol=1e-12, atol=0)


def test_motion_and_modes_are_what_they_are_sample_by_sample():
    torch.manual_seed(3)
    plane = torch.rand(1, 32, 48, dtype=torch.float64)
    halves = upsample(plane)
    taps = torch.tensor([1, -5, 20, 20, -5, 1], dtype=torch.float64) / 32
    torch.testing.assert_close(halves[0, 20, 21], (plane[0, 10, 8:14] * taps).sum())
    torch.testing.assert_close(halves[0, 21, 21], taps @ plane[0, 8:14, 8:14] @ taps)
    vectors = torch.randint(-16, 17, (1, 2, 4, 6)).double() / 4
    got = moved(halves[:, None], vectors, scale=2)[0, 0]
    for y, x in ((9, 13), (17, 30), (30, 5)):
        v, u = (2 * (p + vectors[0, k, y // 8, x // 8]) for p, k in ((y, 1), (x, 0)))
        v, u = v.clamp(0, 63), u.clamp(0, 95)
        top, left = v.floor().long().clamp(max=62), u.floor().long().clamp(max=94)
        corners = halves[0, top : top + 2, left : left + 2]
        weights = torch.stack([1 - (v - top), v - top])[:, None] * torch.stack([1 - (u - left), u - left])
        torch.testing.assert_close(got[y, x], (corners * weights).sum())
    for side in (4, 8, 16):
        modes = IntraModes(side).double()
        choice = torch.randint(0, len(modes.weights), (1, 32 // side, 48 // side))
        wanted = torch.rand(choice.shape) < 0.6
        every = modes(plane).gather(3, choice[..., None, None].expand(-1, -1, -1, 1, side**2))[..., 0, :] * wanted[..., None]
        got = modes.chosen(plane, choice, where=wanted)
        torch.testing.assert_close(to_blocks(got, macroblock=side, side=side)[..., 0, :], every)


def test_colours_there_and_back():
    rgb = torch.rand(1, 3, 1, 1).expand(-1, -1, 16, 16)
    other = torch.rand(1, 3, 1, 1).expand(-1, -1, 16, 16)
    (y, uv), (y2, uv2) = to_planes(rgb), to_planes(other)
    torch.testing.assert_close(rgb_difference(y - y2, uv - uv2), rgb - other, atol=1e-4, rtol=0)


def _sample(frames: int, types: str, height: int = 48, width: int = 64) -> dict[str, torch.Tensor]:
    clip = make_scene(frames=frames, height=height, width=width)
    return {"frames": clip.frames[None], "frame_types": torch.tensor([["IPB".index(k) for k in types]])}


def test_another_gop_is_refused_and_one_frame_is_not():
    surrogate = build_surrogate("structured", qps=(16, 46), gop=4, width=8).eval()
    for types in ("IPPPP", "IPIP", "PPPP", "IBBPP"):
        with pytest.raises(ConfigError, match=rf"an I frame every 4, and the frame types are {types}: take clips of codec.gop=4"):
            surrogate.analyse(_sample(len(types), types))
    one = surrogate(_sample(1, "I", 50, 62), one_hot_qp(torch.full((1, 1, 4, 4), 30)))
    assert one.frames.shape == (1, 1, 3, 50, 62) and torch.isfinite(one.log_bits).all()
    with pytest.raises(ConfigError, match="do not fit 1 clip"):
        surrogate(_sample(1, "I", 50, 62), one_hot_qp(torch.full((1, 1, 3, 4), 30)))


def test_coarser_is_smaller_and_worse_all_the_way():
    """No rung of anything: QPs between whole ones too."""
    surrogate = build_surrogate("structured", qps=(16, 46), gop=8, width=8).eval()
    one = _sample(3, "IBP")
    analysis = surrogate.analyse(one)
    levels = torch.tensor([2.0, 14.5, 27.0, 39.5, 51.0])
    qp = soft_qp(levels.view(5, 1, 1, 1).expand(-1, 3, 3, 4))
    predicted = surrogate.predict(analysis, qp)
    errors = (predicted.frames - one["frames"] / 255).square().mean((1, 2, 3, 4))
    assert (predicted.log_clip_bits.diff() < -0.1).all() and (errors.diff() > 0).all()
    assert errors[0] < 1e-4
