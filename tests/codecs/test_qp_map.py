"""A map is obeyed to the macroblock or refused: one test for each way in which x264 drops it silently."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import av
import numpy as np
import pytest

from dvcc import ABR, CQP, CRF, X264, CodecError, ConfigError, QPMap, QPOffsets, read_clip
from dvcc.codecs.regions import borrow_canvas
from dvcc.qp import fill_skipped_qps
from dvcc.units import macroblock_grid
from tests.conftest import make_noise, make_scene


def psnr(clip, coded) -> float:
    return 10 * np.log10(255**2 / ((coded.clip().y.astype(float) - clip.y) ** 2).mean())


def even_map(clip, rng, low=16, high=44) -> QPMap:
    shape = (clip.num_frames, *macroblock_grid(clip.height, clip.width))
    return QPMap(2 * rng.integers(low // 2, high // 2 + 1, shape))


@pytest.mark.parametrize("height, width", [(64, 96), (70, 90), (128, 128)])
def test_even_maps_on_noise_read_back_exactly(height, width, rng):
    clip = make_noise(height=height, width=width)
    wanted = even_map(clip, rng)
    coded = X264(bframes=0).encode(clip, wanted)
    assert coded.requested_qp == wanted
    np.testing.assert_array_equal(coded.realised_qp().values, wanted.values)


def test_any_integer_map_is_never_more_than_one_off_on_noise(noise, rng):
    wanted = QPMap(rng.integers(16, 45, (8, 4, 6)))
    realised = X264(bframes=0).encode(noise, wanted).realised_qp()
    gap = np.abs(realised.values - wanted.values)
    assert gap.max() <= 1 and (gap == 0).mean() > 0.85


def test_with_b_frames_almost_every_macroblock_reads_back(rng):
    clip = make_noise(frames=9)
    wanted = even_map(clip, rng)
    realised = X264().encode(clip, wanted).realised_qp()
    assert (realised.values == wanted.values).mean() > 0.95


def test_psy_and_presets_up_to_slower_keep_the_map_exact(noise, rng):
    wanted = even_map(noise, rng)
    for preset in ("ultrafast", "veryfast", "slower"):
        assert X264(preset=preset, bframes=0).encode(noise, wanted).realised_qp() == wanted, preset


TRAPS = {
    "AQ off": {"params": {"aq-mode": "0"}},
    "AQ strength 0": {"params": {"aq-strength": "0"}},
    "CQP": {"params": {"qp": "30"}},
    "real AQ moves the map": {"params": {"aq-strength": "1"}},
    "P and I frames apart": {"params": {"ipratio": "1.4"}},
    "QPRD re-decides": {"preset": "veryslow"},
    "a floor": {"params": {"qpmin": "30"}},
    "a ceiling": {"params": {"qpmax": "30"}},
    "a zone": {"params": {"zones": "0,7,q=40"}},
    "a zone by ratio": {"params": {"zones": "0,7,b=0.3"}},
    "VBV": {"params": {"vbv-maxrate": "500", "vbv-bufsize": "100"}},
    "another level": {"params": {"crf": "30"}},
}


@pytest.mark.parametrize("trap", TRAPS)
def test_an_absolute_map_that_x264_would_ignore_raises(trap, noise, rng):
    with pytest.raises(CodecError, match="would ignore or shift"):
        X264(**TRAPS[trap]).encode(noise, even_map(noise, rng))


@pytest.mark.parametrize("trap", ["AQ off", "AQ strength 0", "CQP"])
def test_offsets_that_x264_would_ignore_raise(trap, noise):
    with pytest.raises(CodecError, match="would ignore or shift"):
        X264(**TRAPS[trap]).encode(noise, ABR(1000, offsets=QPOffsets(np.full((8, 4, 6), 4))))


def test_ultrafast_has_no_aq_so_offsets_are_refused(noise):
    with pytest.raises(CodecError, match="aq=0"):
        X264(preset="ultrafast").encode(noise, ABR(1000, offsets=QPOffsets(np.full((8, 4, 6), 4))))


def test_the_trap_is_real_in_this_build(noise, rng):
    """Without our check the map vanishes: if FFmpeg mends this one day, the check can go."""
    coded = []
    for offset in (0, 20):
        context = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt = noise.width, noise.height, "yuv420p"
        context.time_base, context.options = 1 / noise.fps, {"qp": "30", "bf": "0"}
        context.thread_type, context.thread_count = "FRAME", 1
        with borrow_canvas(noise.height, noise.width) as canvas:
            frame = canvas.paint((noise.y[0], noise.u[0], noise.v[0]), np.full((4, 6), offset))
            frame.pts = 0
            coded.append(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    assert coded[0] == coded[1]


def test_raising_every_qp_never_raises_bits(scene):
    codec = X264()
    bits = [codec.encode(scene, QPMap.uniform(qp, like=scene)).bits for qp in range(10, 52, 3)]
    assert bits == sorted(bits, reverse=True) and bits[0] > 4 * bits[-1]


def test_the_map_moves_quality_where_it_asks(scene):
    values = np.full((8, 4, 6), 40)
    values[:, :, :3] = 16
    coded = X264().encode(scene, QPMap(values)).frames.float()
    error = (coded - scene.frames.float()).square()
    assert error[..., :48].mean() * 10 < error[..., 48:].mean()


def test_zero_offsets_are_byte_identical_to_plain_two_pass_abr(scene):
    codec, zeros = X264(), QPOffsets(np.zeros((8, 4, 6), int))
    for passes in (1, 2):
        plain = codec.encode(scene, ABR(200, passes=passes))
        assert codec.encode(scene, ABR(200, passes=passes, offsets=zeros)).bitstream == plain.bitstream


@pytest.mark.parametrize("width", [96, 160, 256])
def test_the_same_input_makes_the_same_bytes_every_time(width):
    """x264's AVX-512 mbtree code does not at widths such as 96 and 160; we keep it from being used."""
    clip = make_scene(width=width)
    assert len({X264().encode(clip, ABR(100)).bitstream for _ in range(10)}) == 1


def test_offsets_move_quality_at_the_same_bitrate():
    clip = make_scene(frames=32)
    values = np.zeros((32, 4, 6), int)
    values[:, :, :3], values[:, :, 3:] = -8, 8
    codec = X264()
    plain, moved = codec.encode(clip, ABR(300)), codec.encode(clip, ABR(300, offsets=QPOffsets(values)))

    def error(coded, columns):
        return (coded.frames[..., columns].float() - clip.frames[..., columns].float()).square().mean()

    assert error(moved, slice(0, 48)) < error(plain, slice(0, 48))
    assert error(moved, slice(48, 96)) > error(plain, slice(48, 96))
    assert moved.bits == pytest.approx(plain.bits, rel=0.25)


def test_a_map_of_another_size_is_refused(scene):
    with pytest.raises(ConfigError, match=r"needs \(8, 4, 6\)"):
        X264().encode(scene, QPMap(np.full((8, 4, 5), 30)))
    with pytest.raises(ConfigError, match=r"needs \(8, 4, 6\)"):
        X264().encode(scene, ABR(100, offsets=QPOffsets(np.zeros((7, 4, 6), int))))


def _encode_in_worker(seed: int) -> bytes:
    clip = make_noise(seed=seed)
    return X264(bframes=0).encode(clip, even_map(clip, np.random.default_rng(seed))).bitstream


@pytest.mark.slow
def test_many_processes_make_the_same_bytes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_encode_in_worker, range(4))) == [_encode_in_worker(seed) for seed in range(4)]


def test_threads_do_not_share_a_canvas():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_encode_in_worker, range(8))) == [_encode_in_worker(seed) for seed in range(8)]


@pytest.mark.parametrize(
    "values, reason",
    [
        (np.zeros((4, 6), int), "shape"),
        (np.full((1, 4, 6), 52), "0 to 51"),
        (np.full((1, 4, 6), -1), "0 to 51"),
        (np.full((1, 4, 6), 30.5), "integers"),
        (np.zeros((0, 4, 6), int), "shape"),
    ],
)
def test_bad_maps_say_what_is_wrong(values, reason):
    with pytest.raises(ConfigError, match=reason):
        QPMap(values)


def test_a_uniform_map_is_not_rounded_in_silence(scene):
    with pytest.raises(ConfigError, match="integers, got float64"):
        QPMap.uniform(30.5, like=scene)


def test_maps_survive_the_disk_and_damaged_files_are_named(tmp_path, rng):
    from dvcc import VideoError

    saved = QPMap(rng.integers(0, 52, (3, 4, 6)))
    saved.save(tmp_path / "map.npz")
    assert QPMap.load(tmp_path / "map.npz") == saved
    whole = (tmp_path / "map.npz").read_bytes()
    for bad in (b"", whole[: len(whole) // 2], b"nonsense"):
        (tmp_path / "bad.npz").write_bytes(bad)
        with pytest.raises(VideoError, match="bad.npz"):
            QPMap.load(tmp_path / "bad.npz")


def test_lossless_cqp_differs_from_a_map_of_zeros(scene):
    assert X264().encode(scene, CQP(0)).bits != X264().encode(scene, QPMap.uniform(0, like=scene)).bits


def test_what_is_inherited_gives_way_to_the_mean_of_the_rest():
    qp = np.array([[[20, 20, 30], [30, 41, 41]], [[7, 7, 7], [7, 7, 7]]])
    np.testing.assert_array_equal(fill_skipped_qps(qp), [[[20, 30, 30], [30, 41, 30]], [[7, 7, 7], [7, 7, 7]]])
    assert fill_skipped_qps(qp.astype(np.float32)).dtype == np.float32


def test_an_encode_at_the_qps_of_another_takes_about_its_bits(bikes):
    """Where nothing was coded, what is read back is not what x264 would have taken: obeyed, it costs bits."""
    clip = read_clip(bikes, frames=24, size=(224, 512))
    first = X264(gop=24).encode(clip, CRF(34))
    read = first.realised_qp().values
    again, clean = (X264(gop=24).encode(clip, QPMap(values)) for values in (read, fill_skipped_qps(read)))
    assert clean.bits < 0.92 * again.bits and psnr(clip, clean) > psnr(clip, first)
    assert clean.bits == pytest.approx(first.bits, rel=0.1)
