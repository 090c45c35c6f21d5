"""`dvcc encode` as a process that runs out of disk or is stopped: it leaves no file behind."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest


def run_dvcc(*words, **how):
    return subprocess.run(
        [sys.executable, "-m", "dvcc.cli", *map(str, words)], capture_output=True, text=True, timeout=120, **how
    )


def test_a_full_disk_is_one_sentence_and_no_file(make_video, tmp_path):
    path, out = make_video(frames=60, size=(128, 160)), tmp_path / "out.mp4"

    def small_files() -> None:  # 10 kB each, as on a disk that is full
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    done = run_dvcc(
        "encode", path, out, "--target-kbps", 2000, "--task", "segmentation", "--preset", "ultrafast", preexec_fn=small_files
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "error: cannot write" in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_its_kind_leave_no_file(make_video, tmp_path, number):
    (tmp_path / "temporary").mkdir()
    path, out = make_video(frames=400, size=(128, 192)), tmp_path / "out.mp4"
    words = [
        sys.executable,
        "-m",
        "dvcc.cli",
        "encode",
        str(path),
        str(out),
        "--target-kbps",
        "300",
        "--task",
        "segmentation",
        "--preset",
        "veryslow",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.mp4.*.part")) and time.monotonic() < deadline:
            time.sleep(0.05)  # until the second pass writes
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "temporary"]
    assert {p.name for p in (tmp_path / "temporary").iterdir()} <= {".ses"}  # onnxruntime's own, left by its import
