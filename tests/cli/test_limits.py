"""What a service sets: the most pixels and seconds of a video, and the time that a command may take."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from dvcc.cli import limits, main
from dvcc.errors import TimeLimitError, VideoError
from dvcc.media.container import LIMITS, open_container
from dvcc.media.damage import Damage
from dvcc.media.probe import open_video
from tests.streams import write_pieces
from tests.videos import write_video


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "in.mp4", frames=50)  # of 96x64, 2 s


def commands(video, folder):
    rate = ["--target-kbps", "150"]
    yield ["encode", video, folder / "out.mp4", *rate, "--controller", "abr", "--preset", "ultrafast"]
    yield ["export", video, *rate, "--task", "segmentation", "--format", "npz", "--out", folder / "out.npz"]
    yield ["compare", video, *rate, "--task", "segmentation", "--out", folder / "page"]
    yield ["inspect", video]
    yield ["encode", video, folder / "out.ts", "--live", *rate, "--controller", "abr"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an import that is cut off
@pytest.mark.parametrize(
    "words, said",
    [
        (["--max-pixels", "6143"], "pictures of 96x64, and --max-pixels is 6143: scale it down before"),
        (["--max-seconds", "1.9"], "lasts 2 s or longer, and --max-seconds is 1.9: give a shorter one"),
        (["--time-limit", "0.0001"], "not done within 0.0001 s: give more with --time-limit"),
        (["--max-pixels", "0"], "--max-pixels must be positive, got 0"),
        (["--time-limit", "nan"], "--time-limit must be positive, got nan"),
    ],
)
def test_every_command_keeps_to_its_limits(words, said, video, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    for command in commands(video, tmp_path):
        assert main([str(word) for word in [*command, *words]]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and said in error
        assert sorted(tmp_path.rglob("*")) == before
    assert LIMITS.max_pixels is None and LIMITS.max_seconds is None


def test_what_is_within_them_is_coded(video, tmp_path, capsys):
    words = ["--max-pixels", "6144", "--max-seconds", "2", "--time-limit", "60"]
    encode, *_, inspect, _ = commands(video, tmp_path)
    assert main([str(word) for word in [*encode, *words]]) == 0, capsys.readouterr().err
    assert (tmp_path / "out.mp4").is_file()
    assert main([str(word) for word in [*inspect, *words]]) == 0


def test_a_stream_that_does_not_say_its_length_is_stopped_on_the_way(tmp_path, capsys):
    path = write_pieces(tmp_path / "in.ts", [(100, 0)])
    raw = tmp_path / "in.h264"
    with open_container(path) as container:
        raw.write_bytes(b"".join(bytes(packet) for packet in container.demux(video=0)))
    words = ["--target-kbps", "100", "--controller", "abr", "--preset", "ultrafast", "--max-seconds", "1"]
    assert main(["encode", str(raw), str(tmp_path / "out.mp4"), *words]) == 2
    assert "lasts 1 s or longer, and --max-seconds is 1" in capsys.readouterr().err and not (tmp_path / "out.mp4").exists()
    assert main(["inspect", str(raw), "--max-seconds", "1"]) == 2
    assert "--max-seconds is 1" in capsys.readouterr().err


def test_pictures_that_grow_on_the_way_are_refused_and_far_larger_ones_not_decoded(tmp_path, monkeypatch):
    small = write_video(tmp_path / "a.h264", frames=200).read_bytes()
    for size in ((128, 192), (640, 640)):
        large = write_video(tmp_path / "b.h264", frames=5, size=size)
        (tmp_path / "grows.h264").write_bytes(small + large.read_bytes())
        source, damage = open_video(tmp_path / "grows.h264"), Damage()
        with monkeypatch.context() as patch:
            patch.setattr(LIMITS, "max_pixels", 7000)
            if size == (128, 192):
                with pytest.raises(VideoError, match="pictures of 192x128, and --max-pixels is 7000"):
                    list(source.frames())
            else:
                assert len(list(source.frames(damage))) == 200 and damage.packets == 5
            with pytest.raises(VideoError, match=f"{size[1]}x{size[0]}"):
                open_container(large)


def test_a_limit_that_is_over_at_once_ends_no_process_later():
    """The timer that ends a process which does not come back is always taken away."""
    for seconds in (1e-6, 1e-5, 3e-5, 1e-4) * 25:
        with suppress(TimeLimitError), limits.applied(argparse.Namespace(time_limit=seconds)):
            time.sleep(0.001)
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_command_that_waits_for_ever_is_ended(tmp_path, monkeypatch):
    """FFmpeg waits for the first byte of a pipe, and gives nothing back to Python."""
    os.mkfifo(tmp_path / "pipe")
    words = [tmp_path / "pipe", tmp_path / "out.ts", "--live", "--target-kbps", "100", "--controller", "abr"]
    code = "import sys; from dvcc.cli import limits, main; limits._GRACE = 1.0; sys.exit(main(sys.argv[1:]))"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "encode", *map(str, words), "--time-limit", "1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.count("not done within 1 s") == 1, done.stderr
    assert time.monotonic() - began < 30 and limits._GRACE == 10
