"""What `dvcc --help` and the commands' own help say."""

import pytest

import dvcc
from dvcc.cli import main


def help_of(capsys, *words) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["compare"], ["encode"], ["export"], ["inspect"], ["zoo"]])
def test_it_fits_into_80_columns(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, help_of(capsys, *words).splitlines())) < 80


@pytest.mark.parametrize("command", ["encode", "export"])
def test_tasks_with_a_control_are_told(command, capsys):
    help_text = " ".join(help_of(capsys, command).split())
    assert "detection, segmentation" in help_text


def test_export_tells_the_delivery_of_every_format(capsys):
    assert "default: offsets for svtav1 and nvenc, else map" in " ".join(help_of(capsys, "export").split())


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"dvcc {dvcc.__version__}\n"
