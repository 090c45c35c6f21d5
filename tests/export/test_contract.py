"""One suite for every format: what a small reader finds in the file is the map, but for what the format says it loses."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dvcc import QPMap, QPOffsets
from dvcc.export import FORMATS
from dvcc.export.svtav1 import few_levels
from dvcc.media.format import VideoFormat
from dvcc.media.source import VideoSource

GRID = (5, 9)  # neither is a multiple of 4: the last 64x64 units are cut
PICTURE = VideoFormat(16 * GRID[0], 16 * GRID[1], Fraction(30000, 1001), Fraction(1, 1000), 1)
SOURCE = VideoSource(Path("/videos/in.mp4"), 0, PICTURE, "bt709", None, 0, ())
GOPS = (4, 4, 3)
KIND = {"map": QPMap, "offsets": QPOffsets}
CASES = [(name, delivery) for name, written in FORMATS.items() for delivery in written.takes]


def maps(delivery: str, *, seed: int = 0) -> list:
    low, high = (18, 45) if delivery == "map" else (-12, 13)
    rng = np.random.default_rng(seed)
    return [KIND[delivery](rng.integers(low, high, (frames, *GRID))) for frames in GOPS]


def written(name: str, given: list) -> tuple[bytes, str]:
    file = io.BytesIO()
    command = FORMATS[name].write(file, iter(given), source=SOURCE, out=Path("map.txt"), gop=GOPS[0])
    return file.getvalue(), command


def means(values: np.ndarray) -> np.ndarray:
    """Of 64x64 pixels, not rounded, by a loop."""
    rows, columns = -(-GRID[0] // 4), -(-GRID[1] // 4)
    out = np.empty((len(values), rows, columns))
    for y in range(rows):
        for x in range(columns):
            out[:, y, x] = values[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean((1, 2))
    return out


def read_npz(data: bytes) -> np.ndarray:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert archive["qp"].dtype == np.int8
        return archive["qp"]


def read_accmpeg(data: bytes) -> np.ndarray:
    return np.array(data.split(), int).reshape(-1, *GRID)


def read_nvenc(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.int8).reshape(-1, *GRID)


def read_kvazaar(data: bytes) -> np.ndarray:
    words, frames = [int(word) for word in data.split()], []
    while words:
        width, height = words[:2]
        frames.append(np.array(words[2 : 2 + width * height]).reshape(height, width))
        words = words[2 + width * height :]
    return np.stack(frames)


def read_svtav1(data: bytes) -> np.ndarray:
    """A frame without a line has the map of the one before."""
    frames: list[np.ndarray] = []
    for line in data.decode().splitlines():
        number, *offsets = [int(word) for word in line.split()]
        frames += [frames[-1]] * (number - len(frames)) if frames else []
        frames.append(np.array(offsets).reshape(-(-GRID[0] // 4), -1))
    return np.stack(frames + [frames[-1]] * (sum(GOPS) - len(frames)))


def read_script(data: bytes) -> np.ndarray:
    """Absolute QPs: of rectangles that overlap the first one counts."""
    frames = []
    for count, chain in re.findall(r"^encode (\d+) <<'END'\n(.*?)\nEND$", data.decode(), re.DOTALL | re.MULTILINE):
        qp = np.full(GRID, 99)
        for x, y, w, h, offset in re.findall(r"addroi=x=(\d+):y=(\d+):w=(\d+):h=(\d+):qoffset=(-?\d+)/51", chain)[::-1]:
            top, left, height, width = (int(side) // 16 for side in (y, x, h, w))
            qp[top : top + height, left : left + width] = 26 + int(offset)
        frames += [qp] * int(count)
    return np.stack(frames)


READERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "npz": read_npz,
    "ffmpeg": read_script,
    "accmpeg": read_accmpeg,
    "kvazaar": read_kvazaar,
    "svtav1": read_svtav1,
    "nvenc": read_nvenc,
    "x265": read_script,
}


def expected(name: str, given: list) -> tuple[np.ndarray, float]:
    """What may be found, and how far from it a value may be."""
    values = np.concatenate([qp.values for qp in given]).astype(float)
    if name in ("ffmpeg", "x265"):
        steady = [np.broadcast_to(qp.values.astype(float).mean(0), qp.values.shape) for qp in given]
        return np.concatenate(steady), 1.0 if name == "ffmpeg" else 0.5
    if name in ("kvazaar", "nvenc") and isinstance(given[0], QPMap):
        values -= 26
    if name == "kvazaar":
        return means(values), 0.5
    if name == "svtav1":
        return 6 * (means(values) - np.rint(means(values)).min()), 6 * 0.5
    return values, 0.0


def test_every_format_has_a_reader():
    assert set(READERS) == set(FORMATS)


@pytest.mark.parametrize("name, delivery", CASES)
def test_the_file_reads_back_as_the_map(name, delivery):
    given = maps(delivery)
    data, _ = written(name, given)
    read, (want, tolerance) = READERS[name](data), expected(name, given)
    assert read.shape == want.shape and np.abs(read - want).max() <= tolerance


@pytest.mark.parametrize("name, delivery", CASES)
def test_maps_that_do_not_change_read_back_exactly(name, delivery):
    """Constant over a GOP, even, and the same within 64x64 pixels: no format loses anything of it but the zero of its scale."""
    rng = np.random.default_rng(1)
    given = []
    for frames in GOPS:
        coarse = 2 * (rng.integers(9, 13, (1, 2, 3)) if delivery == "map" else rng.integers(-2, 3, (1, 2, 3)))
        fine = coarse.repeat(4, 1).repeat(4, 2)[:, : GRID[0], : GRID[1]]
        given.append(KIND[delivery](fine.repeat(frames, 0)))
    read, (want, _) = READERS[name](written(name, given)[0]), expected(name, given)
    np.testing.assert_array_equal(read, want)


@pytest.mark.parametrize("name, delivery", CASES)
def test_a_command_and_what_is_lost_are_one_line_each(name, delivery):
    given = maps(delivery)
    for line in (written(name, given)[1], FORMATS[name].loses):
        assert line and "\n" not in line


def test_names_of_files_differ_and_say_their_format():
    suffixes = [kind.suffix for kind in FORMATS.values()]
    assert len(set(suffixes)) == len(suffixes)


def test_no_more_than_eight_levels():
    many = np.arange(-12, 13).reshape(1, 5, 5).astype(np.int16)
    few = few_levels(np.concatenate([many, many // 4]))
    assert [len(np.unique(frame)) for frame in few] == [7, 7]
    np.testing.assert_array_equal(few[1], many[0] // 4)
    assert np.abs(few[0] - many[0]).max() <= 2


def test_no_offset_of_svtav1_is_negative_and_unchanged_frames_have_no_line():
    given = maps("offsets")
    data, command = written("svtav1", [QPOffsets(qp.values[:1].repeat(4, 0)) for qp in given[:2]])
    lines = [[int(word) for word in line.split()] for line in data.decode().splitlines()]
    assert [line[0] for line in lines] == [0, 4] and min(min(line[1:]) for line in lines) == 0
    crf = int(re.search(r"--crf (\d+)", command)[1])
    lowest = means(np.concatenate([qp.values[:1] for qp in given[:2]]).astype(float)).min()
    assert abs(crf - (35 + 1.5 * lowest)) <= 1.5
