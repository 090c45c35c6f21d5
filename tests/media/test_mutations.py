"""Damaged files: whatever is cut, flipped, spliced or wiped, a command ends in time, with a result or in one sentence."""

import signal
from pathlib import Path

import numpy as np
import pytest

from dvcc.cli import main
from dvcc.media.probe import open_video
from tests.videos import lively_network, write_control, write_video

KINDS = [
    ("plain.mp4", {}),
    ("sound.mkv", {"audio": "aac"}),
    ("stream.ts", {}),
    ("lossless.mkv", {"codec": "ffv1", "size": (66, 98)}),
    ("web.webm", {"codec": "libvpx", "options": {"deadline": "realtime"}}),
]
_SECONDS = 60  # for one command; all of them take well under one


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One kind of damage, at a random place."""
    kind, place, size = rng.integers(5), int(rng.integers(len(data))), int(rng.integers(1, 2000))
    if kind == 0:  # the transfer broke off
        return data[:place]
    changed = bytearray(data)
    if kind == 1:  # bits flip
        for at in rng.integers(len(data), size=int(rng.integers(1, 60))):
            changed[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:  # a piece of another file
        changed[place : place + size] = other[place % len(other) :][:size]
    elif kind == 3:  # a bad sector
        changed[place : place + size] = bytes(len(changed[place : place + size]))
    else:  # a piece twice
        changed[place:place] = data[place : place + size]
    return bytes(changed)


def out_of_time(*_: object) -> None:
    raise AssertionError(f"a command took more than {_SECONDS} s")


def survive(count: int, tmp_path, capsys) -> dict[str, int]:
    """Put `count` damaged files through the commands; how many of each came to a result."""
    checkpoint = write_control(tmp_path / "control.onnx", lively_network())
    sources = [write_video(tmp_path / name, frames=10, **how).read_bytes() for name, how in KINDS]
    results = {"encode": 0, "inspect": 0, "export": 0}
    rng, before = np.random.default_rng(0), signal.signal(signal.SIGALRM, out_of_time)
    folder = tmp_path / "work"
    folder.mkdir()
    try:
        for number in range(count):
            kind = number % len(KINDS)
            path = folder / f"bad{number}{Path(KINDS[kind][0]).suffix}"
            path.write_bytes(mutated(sources[kind], sources[(kind + 1) % len(KINDS)], rng))
            out = folder / "out.mp4"
            commands = {
                "inspect": ["inspect", path],
                "encode": ["encode", path, out, "--target-kbps", "200", "--checkpoint", checkpoint, "--preset", "ultrafast"],
                "export": [
                    *("export", path, "--target-kbps", "200", "--format", "npz", "--out", folder / "out.npz"),
                    *("--checkpoint", checkpoint),
                ],
            }
            for name, words in commands.items():
                signal.alarm(_SECONDS)
                status = main([str(word) for word in words])
                signal.alarm(0)
                errors = capsys.readouterr().err
                assert status in (0, 2), (number, name, status)
                assert (status == 2) == ("error: " in errors), (number, name, errors)
                results[name] += status == 0
                if name == "encode":
                    assert out.exists() == (status == 0)
                    if out.exists():
                        assert sum(1 for _ in open_video(out).frames()) > 0
                        out.unlink()
            (folder / "out.npz").unlink(missing_ok=True)
            path.unlink()
            assert not list(folder.iterdir()), (number, list(folder.iterdir()))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return results


def test_damaged_files_end_in_a_result_or_a_sentence(tmp_path, capsys):
    results = survive(25, tmp_path, capsys)
    assert 5 < results["encode"] <= 25


@pytest.mark.exhaustive
def test_five_hundred_damaged_files(tmp_path, capsys):
    results = survive(500, tmp_path, capsys)
    with capsys.disabled():
        print(f"\n500 damaged files, of which came to a result: {results}")
    assert results["encode"] > 100
