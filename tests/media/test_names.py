"""What a user calls a file is a file: names that FFmpeg or argparse would take for something else."""

import pytest

from dvcc.cli import main
from dvcc.media.probe import open_video

NAMES = ["-cam.mp4", "cam1:front 12:30:00.mp4", "50%d%%.mkv", "file:x.ts"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_and_written_whatever_its_name(make_video, tmp_path, monkeypatch, capsys, name):
    make_video("plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    out = f"-out{name}" if name.startswith("-") else f"{name[:4]}out:%d{name[-4:]}"
    words = ["--target-kbps", "200", "--task", "detection", "--preset", "ultrafast", "--threads", "1"]
    assert main(["encode", name, out, *words]) == 0, capsys.readouterr().err
    assert sum(1 for _ in open_video(out).frames()) == 12
    assert main(["inspect", name]) == 0 and "12 frames" in capsys.readouterr().out
    live = "-live:%d.ts"
    assert main(["encode", "--live", name, live, *words[:-2]]) == 0, capsys.readouterr().err
    assert sum(1 for _ in open_video(live).frames()) == 12
    assert main(["export", name, "--format", "npz", *words[:4], f"--out=-{name}.npz"]) == 0, capsys.readouterr().err
    assert (tmp_path / f"-{name}.npz").is_file()


def test_options_and_numbers_are_no_names(make_video, capsys):
    path = make_video()
    assert main(["compare", str(path), "--target-kbps", "60", "--task", "detection", "--start", "-0.5"]) == 2
    assert "--start must be 0 or more" in capsys.readouterr().err
