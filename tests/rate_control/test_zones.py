"""What a person paints counts, or does not, whatever the detector says, at any size and however the video lies."""

import random
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from benchmarks.mutating import pictures
from dvcc import ConfigError
from dvcc.control.eyes.painting import load_rule
from dvcc.errors import VideoError
from dvcc.media.container import LIMITS
from dvcc.media.format import VideoFormat
from dvcc.rate_control.objects import Objects, ObjectStream, load_objects, with_background
from dvcc.rate_control.zones import load_zones
from tests.rate_control.test_objects import GROUND, NONE, OBJECT, RULE, Answers, boxes, planes

LEFT_WHITE = np.where(np.arange(96) < 32, 255, 128) * np.ones((64, 1))
TOP_BLACK = np.where(np.arange(64) < 32, 0, 128)[:, None] * np.ones((1, 96))


def written(path, pixels, mode="L"):
    Image.fromarray(np.asarray(pixels, np.uint8), mode="L").convert(mode).save(path)
    return path


def painted(folder, pixels, answer=NONE, height=64, width=96, **how):
    """The stream of a rule with zones of these grey levels, before a detector that gives an answer."""
    zones = load_zones(written(folder / "zones.png", pixels))
    objects = Objects(Answers(answer), RULE, zones=zones)
    return ObjectStream(objects, height=height, width=width, matrix="bt601", full_range=False, **how)


def test_white_always_counts_and_black_never_does(tmp_path):
    person = boxes((0.4, 0, 1, 1, 0, 0.9))
    pixels = np.minimum(LEFT_WHITE, TOP_BLACK)
    pixels[:32, :32] = 255
    stream = painted(tmp_path, pixels, person)
    values = stream.paint(person)
    assert values.tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 1, 1]] * 2
    decided = stream.decide([planes()] * 3)
    assert (decided[:, values == 1] == decided[0, 0, 0]).all() and decided[0, 0, 0] < 0 < decided[0, 0, 5]
    assert (stream.decide_next(planes()) == decided[0]).all()


def test_a_zone_counts_where_nothing_is_seen_and_no_object_counts_in_a_black_one(tmp_path):
    stream = painted(tmp_path, LEFT_WHITE)
    decided = stream.decide([planes()] * 30)
    assert set(decided[:, :, :2].ravel()) == {OBJECT} and set(decided[:, :, 2:].ravel()) == {GROUND}
    assert stream.words("x264") == "objects and zones on 30 of 30 frames, 33 % of the picture: offsets on 30"
    hidden = painted(tmp_path, TOP_BLACK, boxes((0.2, 0, 0.6, 0.4, 0, 0.9)))
    assert not hidden.decide([planes()] * 5).any() and hidden.words("x264") == "no objects seen: x264's own allocation kept"
    full = painted(tmp_path, np.full((64, 96), 255))
    assert not full.decide([planes()] * 5).any()
    assert full.words("x264") == "objects and zones cover 100 % of the picture: x264's own allocation kept"


@pytest.mark.parametrize("size", [(64, 96), (32, 48), (4, 6), (512, 768), (100, 150)])
def test_zones_have_any_size(size, tmp_path):
    pixels = np.full(size, 128)
    pixels[size[0] // 2 :, : size[1] // 3] = 255
    always, never = load_zones(written(tmp_path / "zones.png", pixels)).on_grid(64, 96)
    assert always.tolist() == [[False] * 6] * 2 + [[True] * 2 + [False] * 4] * 2 and not never.any()


def test_what_covers_most_of_a_macroblock_decides(tmp_path):
    pixels = np.full((16, 32), 128)
    pixels[:, :9], pixels[:, 9:25] = 255, 0
    always, never = load_zones(written(tmp_path / "zones.png", pixels)).on_grid(16, 32)
    assert always.tolist() == [[True, False]] and never.tolist() == [[False, True]]
    always, never = load_zones(tmp_path / "zones.png").on_grid(20, 36)  # of macroblocks that reach over the edge, what is there
    assert always.shape == (2, 3) and always[:, 0].all() and never[:, 1:].sum() == 2


@pytest.mark.parametrize("turns", range(4))
def test_zones_are_painted_over_the_upright_picture(turns, tmp_path):
    upright = np.full((48, 80) if turns % 2 == 0 else (80, 48), 128)
    upright[:16, :32] = 255
    zones = load_zones(written(tmp_path / "zones.png", upright))
    zones.check_shape(VideoFormat(48, 80, Fraction(25), Fraction(1, 25), 1), quarter_turns=turns)
    always, _ = zones.on_grid(48, 80, quarter_turns=turns)
    shown = np.zeros(np.rot90(always, turns).shape, bool)
    shown[:1, :2] = True
    assert (np.rot90(always, turns) == shown).all()
    mirrored, _ = zones.on_grid(48, 80, quarter_turns=turns, mirrored=True)
    assert (np.rot90(mirrored, turns)[:, ::-1] == shown).all()


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "LA", "P", "I;16"])
def test_every_kind_of_png_says_the_same(mode, tmp_path):
    pixels = np.where(np.arange(96) < 48, 255, 0) * np.ones((64, 1))
    image = Image.fromarray(pixels.astype(np.uint8))
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "zones.png")
    always, never = load_zones(tmp_path / "zones.png").on_grid(64, 96)
    assert always[:, :3].all() and never[:, 3:].all() and always.sum() == never.sum() == 12


def test_transparent_pixels_are_left_to_the_detector(tmp_path):
    pixels = np.full((64, 96, 4), 255, np.uint8)
    pixels[:, 48:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "zones.png")
    always, never = load_zones(tmp_path / "zones.png").on_grid(64, 96)
    assert always[:, :3].all() and not always[:, 3:].any() and not never.any()


def test_what_is_no_mask_is_refused(tmp_path):
    for name, pixels, match in (
        ("grey.png", np.full((8, 8), 128), "neither white nor black"),
        ("photo.jpg", LEFT_WHITE, "is no PNG picture: for zones, paint a PNG picture white where all counts"),
    ):
        with pytest.raises(ConfigError, match=match):
            load_zones(written(tmp_path / name, pixels))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "colours.png")
    with pytest.raises(ConfigError, match="colours.png has colours, which say nothing here"):
        load_zones(tmp_path / "colours.png")
    whole = written(tmp_path / "cut.png", LEFT_WHITE).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:40])
    with pytest.raises(ConfigError, match="cut.png cannot be read as a picture: check that the file is complete"):
        load_zones(tmp_path / "cut.png")
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_objects(zones=path)


def test_a_picture_that_says_nonsense_of_itself_is_one_sentence(tmp_path):
    """12 of these 80 ended in a traceback, since not every error of FFmpeg is an `OSError` or a `ValueError`."""
    path, rng = tmp_path / "zones.png", random.Random(0)
    read = refused = 0
    for _ in range(80):
        path.write_bytes(pictures.png(pictures.painted(rng, width=24, height=16), rng, sizes=((1, 1), (16, 900))))
        try:
            read += load_zones(path).kinds.size > 0
        except ConfigError as error:
            refused += str(error).startswith(f"{path} ")
    assert read + refused == 80 and min(read, refused) > 15


def test_a_small_file_of_a_huge_picture_is_refused_unread(tmp_path, monkeypatch):
    path, rng = tmp_path / "zones.png", random.Random(0)
    path.write_bytes(pictures.resized(pictures.painted(rng), 8192, 4400))
    with pytest.raises(ConfigError, match=r"zones.png is 8192x4400, and zones have at most 35651584 pixels: scale it down"):
        load_zones(path)
    path.write_bytes(pictures.painted(rng))
    monkeypatch.setattr(LIMITS, "max_pixels", 6000)
    with pytest.raises(VideoError, match=r"zones.png has pictures of 96x64, and --max-pixels is 6000: scale it down before"):
        load_zones(path)
    path.write_bytes(pictures.painted(rng).replace(b"IHDR", b"gAMA"))  # its size would come later, or never
    with pytest.raises(ConfigError, match="cannot be read as a picture"):
        load_zones(path)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    zones = load_zones(written(tmp_path / "zones.png", LEFT_WHITE))
    for height, width, aspect, turns, fits in (
        (64, 96, None, 0, True),
        (480, 720, None, 0, True),
        (96, 64, None, 1, True),
        (96, 64, None, 0, False),  # portrait
        (64, 96, None, 1, False),
        (1080, 1920, None, 0, False),
        (480, 540, Fraction(4, 3), 0, True),  # as it is shown
        (480, 720, Fraction(4, 3), 0, True),  # as it is stored
        (480, 960, Fraction(4, 3), 0, False),
    ):
        picture = VideoFormat(height, width, Fraction(25), Fraction(1, 25), 1, pixel_aspect=aspect)
        if fits:
            zones.check_shape(picture, quarter_turns=turns)
        else:
            with pytest.raises(ConfigError, match=r"zones.png is 96x64 and the video \d+x\d+, which is another shape: paint"):
                zones.check_shape(picture, quarter_turns=turns)


def test_the_background_has_a_largest_offset_and_objects_keep_theirs():
    rule = load_rule()
    for most, expected in ((0, 0), (4, 4), (10, 10), (40, 10)):
        limited = with_background(rule, most)
        assert limited.background == expected and limited.background - limited.strength == OBJECT
    stream = ObjectStream(
        Objects(Answers(boxes((0, 0, 0.25, 0.25, 0, 0.9))), with_background(rule, 3)),
        height=64,
        width=96,
        matrix="bt601",
        full_range=False,
    )
    assert set(stream.decide([planes()]).ravel()) == {OBJECT, 3}
    both = load_objects(strength=8, max_background_offset=2).rule
    assert (both.background, both.strength) == (2, 5)  # of a background of 5, and an object of -3
    for wrong in (-1, 41):
        with pytest.raises(ConfigError, match=f"goes from 0 to 40 QPs, got {wrong}"):
            load_objects(max_background_offset=wrong)
