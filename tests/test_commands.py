"""Command lines as a user types them, in processes of their own: output, exit status, one sentence, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dvcc import CRF, X264, QPMap
from dvcc._guard import guarded
from dvcc.cli import build_parser, main
from dvcc.config.parse import COMMANDS
from dvcc.control.network import ControlNetwork
from tests.conftest import make_scene
from tests.videos import write_control

ROOT = Path(__file__).parents[1]


def run(*words: str, cwd: Path, preexec=None) -> subprocess.CompletedProcess:
    program = ["-m", "dvcc.cli", *words[1:]] if words[0] == "dvcc" else [str(ROOT / words[0]), *words[1:]]
    result = subprocess.run([sys.executable, *program], cwd=cwd, capture_output=True, text=True, timeout=300, preexec_fn=preexec)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def refused(*words: str, cwd: Path, reason: str, preexec=None) -> None:
    """Status 2, one sentence with `reason`, and no new file in `cwd`."""
    before = sorted(cwd.rglob("*"))
    result = run(*words, cwd=cwd, preexec=preexec)
    assert result.returncode == 2, result
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("error: ") and reason in sentence, sentence
    assert sorted(cwd.rglob("*")) == before


def refused_here(capsys, *words: str, reason: str) -> None:
    """The same in this process and folder."""
    before, [program, *rest] = sorted(Path().rglob("*")), words
    try:
        status = main(rest if program == "dvcc" else [program.removesuffix(".py"), *rest])
    except SystemExit as stop:  # of argparse
        status = stop.code
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and sentence.startswith("error: ") and reason in sentence, sentence
    assert sorted(Path().rglob("*")) == before


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "coded.mp4"
    path.write_bytes(X264().encode(make_scene(frames=10), CRF(28)).bitstream)
    return path


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    return write_control(tmp_path / "control.onnx", ControlNetwork(width=8))


def test_help_lists_stages_groups_and_keys(tmp_path):
    expected = {
        "train.py": [
            "surrogate",
            "control",
            "task=classification|detection|embedding|optical_flow|reconstruction|segmentation",
            "data.root",
        ],
        "evaluate.py": ["control", "targets_kbps"],
    }
    for program, words in expected.items():
        result = run(program, "--help", cwd=tmp_path)
        assert result.returncode == 0 and all(word in result.stdout for word in words)


def test_help_names_every_stage():
    text = " ".join(build_parser().format_help().split())
    for program, stages in COMMANDS.items():
        assert f"{program} {' | '.join(stages)}:" in text


def test_output_that_nobody_reads_ends_a_command_in_silence(video, tmp_path):
    for program in ([str(ROOT / "train.py"), "--help"], ["-m", "dvcc.cli", "inspect", str(video)]):
        process = subprocess.Popen([sys.executable, *program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()  # what `| head -1` does when it has its line
        assert process.communicate(timeout=120)[1] == b"" and process.returncode == 141


def test_export_writes_the_map_that_the_encoder_takes(video, checkpoint, tmp_path):
    words = ("--format", "npz", "--target-kbps", "100", "--checkpoint", str(checkpoint))
    result = run("dvcc", "export", str(video), *words, cwd=tmp_path)
    assert result.returncode == 0 and "coded.npz" in result.stdout
    qp = QPMap.load(tmp_path / "coded.npz")
    assert qp.values.shape == (10, 4, 6)
    with np.load(tmp_path / "coded.npz", allow_pickle=False) as archive:
        assert archive["qp"].dtype == np.int8
    assert X264().encode(make_scene(frames=10), qp).requested_qp == qp


def test_inspect_reports_qps_types_bits_and_a_heat_map(video, tmp_path):
    result = run("dvcc", "inspect", str(video), "--heat-map", "heat.png", cwd=tmp_path)
    assert result.returncode == 0 and (tmp_path / "heat.png").stat().st_size > 3000
    assert "10 frames at 25 fps" in result.stdout and "I " in result.stdout and "x264 - core" in result.stdout
    figures = json.loads(run("dvcc", "inspect", str(video), "--json", cwd=tmp_path).stdout)
    coded = X264().encode(make_scene(frames=10), CRF(28))
    assert sum(figures["bits_per_frame"]) == coded.bits and figures["kbps"] == pytest.approx(coded.bitrate_kbps)
    assert figures["frame_types"]["I"]["frames"] == 2


def test_bad_words_are_refused_in_one_sentence(video, checkpoint, tmp_path, monkeypatch, capsys):
    """The first in a process of its own; the others in this one, for most of such a process is imports."""
    monkeypatch.chdir(tmp_path)
    refused("train.py", cwd=tmp_path, reason="needs a stage")
    refused_here(capsys, "train.py", "surrogat", reason="surrogate, control")
    refused_here(capsys, "train.py", "surrogate", "data.sise=[1,2]", reason="did you mean data.size")
    refused_here(capsys, "train.py", "surrogate", "data.frames=many", reason="data.frames")
    refused_here(
        capsys,
        "train.py",
        "control",
        "task=segmentatoin",
        reason="task=classification|detection|embedding|optical_flow|reconstruction|segmentation",
    )
    refused_here(capsys, "train.py", "surrogate", "data.frames", reason="key=value")
    refused_here(capsys, "evaluate.py", "control", "controllers=[abr2,vbr]", "task=reconstruction", reason="vbr")
    refused_here(capsys, "evaluate.py", "control", "task=reconstruction", reason="no checkpoint at runs/control-reconstruction")
    refused_here(capsys, "dvcc", "export", str(video), reason="--target-kbps")
    refused_here(capsys, "dvcc", "export", str(video), "--target-kbps", "-3", reason="positive")
    refused_here(capsys, "dvcc", "export", str(video), "--target-kbps", "9", "--format", "h266", reason="h266")
    refused_here(capsys, "dvcc", "export", str(video), "--target-kbps", "9", "--checkpoint", str(video), reason="coded.mp4")
    words = ["--target-kbps", "9", "--task", "segmentation", "--delivery", "offsets"]
    refused_here(capsys, "dvcc", "export", str(video), *words, reason="use --delivery map")


BAD = {"missing.mp4": None, "empty.mp4": b"", "text.mp4": b"no video here " * 40}


@pytest.mark.parametrize("name", BAD)
def test_bad_videos_are_refused_in_one_sentence(name, checkpoint, tmp_path):
    if BAD[name] is not None:
        (tmp_path / name).write_bytes(BAD[name])
    refused("dvcc", "inspect", name, cwd=tmp_path, reason=name)
    refused("dvcc", "export", name, "--target-kbps", "50", "--checkpoint", str(checkpoint), cwd=tmp_path, reason=name)


def test_training_videos_that_are_not_there_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused_here(capsys, "train.py", "surrogate", "data=folder", "data.root=missing.mp4", reason="missing.mp4")


def test_an_error_in_a_worker_is_one_sentence_too(video, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.mp4").write_bytes(video.read_bytes())
    words = ["data=folder", "data.root=.", "data.test=[test.mp4]", "data.frames=4", "data.stride=1", "data.size=[64,96]"]
    words += ["data.num_workers=1", "codec.preset=veryslow", "trainer.max_steps=1"]
    assert main(["train", "surrogate", *words]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: x264 would ignore or shift")


def test_inspect_refuses_other_codecs(tmp_path):
    from dvcc import JPEG, Quality

    (tmp_path / "jpeg.mp4").write_bytes(JPEG().encode(make_scene(frames=2), Quality(50)).bitstream)
    refused("dvcc", "inspect", "jpeg.mp4", cwd=tmp_path, reason="mjpeg")


def _small_disk() -> None:
    """No file may grow past 1 kB: writes fail as on a full disk."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def test_a_full_disk_leaves_nothing_behind(video, checkpoint, tmp_path):
    words = ("--target-kbps", "50", "--checkpoint", str(checkpoint))
    refused("dvcc", "export", str(video), *words, cwd=tmp_path, reason="free some space, or set TMPDIR", preexec=_small_disk)


@pytest.mark.slow
def test_training_on_a_full_disk_is_one_sentence(video, tmp_path):
    words = ["data=folder", "data.root=.", "data.test=[none.mp4]", "data.frames=4", "data.stride=1", "data.size=[64,96]"]
    (tmp_path / "none.mp4").write_bytes(video.read_bytes())
    result = run("train.py", "surrogate", *words, "trainer.max_steps=1", cwd=tmp_path, preexec=_small_disk)
    assert result.returncode == 2 and "cannot write" in result.stderr.strip().splitlines()[-1]


def test_an_out_below_a_file_is_one_sentence(video, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["data=folder", "data.root=.", "data.test=[test.mp4]", "data.frames=4", "data.stride=1", "data.size=[64,96]"]
    words.append(f"out={video}/run")
    (tmp_path / "test.mp4").write_bytes(video.read_bytes())
    message = "Not a directory; choose another folder with out=DIR"
    refused_here(capsys, "evaluate.py", "control", *words, "task=reconstruction", "controllers=[abr2]", reason=message)
    refused_here(capsys, "train.py", "surrogate", *words, "trainer.max_steps=1", reason=message)


def test_no_command_needs_a_folder_that_can_be_written_to_say_help():
    assert run("dvcc", "--help", cwd=Path("/")).returncode == 0


@pytest.mark.parametrize("words, message", [((), "interrupted\n"), (("rows are kept",), "interrupted: rows are kept\n")])
def test_an_interruption_says_what_is_kept(words, message, capsys):
    def stopped():
        raise KeyboardInterrupt(*words)

    assert guarded(stopped) == 130 and capsys.readouterr().err == message
