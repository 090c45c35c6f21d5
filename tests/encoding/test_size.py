"""A file of a size, with everything that is in it."""

import pytest

from dvcc.cli import main
from dvcc.encoding.size import SizePlan, size_of
from dvcc.errors import ConfigError
from dvcc.media.probe import open_video


@pytest.mark.parametrize(
    ("word", "size"), [("20MB", 20_000_000), ("1.5GiB", 3 * 2**29), ("700 kb", 700_000), ("512KiB", 2**19), ("9000", 9000)]
)
def test_sizes(word, size):
    assert size_of(word) == size


@pytest.mark.parametrize("word", ["", "MB", "-3MB", "0", "20TB", "nan", "2 0MB"])
def test_what_is_no_size(word):
    with pytest.raises(ConfigError, match="give one as 20MB or 700kB"):
        size_of(word)


@pytest.mark.parametrize("name", ["out.mp4", "out.ts"])
def test_a_file_is_at_most_as_large_as_asked_and_nearly_so(make_video, tmp_path, capsys, name):
    path, out = make_video("in.mkv", frames=150, size=(96, 160), audio="aac"), tmp_path / name
    size = 250_000 if name == "out.ts" else 150_000
    words = ["encode", str(path), str(out), "--target-size", f"{size}B", "--controller", "abr", "--preset", "ultrafast"]
    assert main(words) == 0
    assert 0.95 * size <= out.stat().st_size <= size
    assert "of about" in capsys.readouterr().out


def test_what_cannot_be_is_said(make_video, tmp_path, capsys):
    path, out = make_video("in.mkv", frames=30, audio="aac"), tmp_path / "out.mp4"
    with pytest.raises(ConfigError, match="leaves nothing for the video"):
        SizePlan.look(2000, open_video(path), out).kbps  # noqa: B018  # it is a property
    words = ["encode", str(path), str(out), "--controller", "abr", "--preset", "ultrafast"]
    assert main([*words, "--target-size", "20MB"]) == 2 and "out of reach" in capsys.readouterr().err
    assert main([*words, "--target-size", "20MB", "--live"]) == 2 and "is for files" in capsys.readouterr().err
    for both in ([], ["--target-size", "20MB", "--target-kbps", "3"]):
        with pytest.raises(SystemExit):
            main([*words, *both])
    assert not out.exists()
