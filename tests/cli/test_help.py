"""What `dvcc --help` and the commands' own help say."""

import subprocess

import pytest

import dvcc
from dvcc.cli import main


def help_of(capsys, *words) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["compare"], ["encode"], ["export"], ["inspect"], ["zoo"], ["completion"]])
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


@pytest.mark.parametrize(
    "words, said",
    [
        (["encode", "a.mp4", "b.mp4", "--target_kbps", "5"], "there is no option --target_kbps: did you mean --target-kbps?"),
        (["inspect", "a.mp4", "--heatmap=x.png"], "--heatmap: did you mean --heat-map?"),
        (["encod", "a.mp4"], "COMMAND is no 'encod': did you mean encode?"),
        (["compare", "a.mp4", "--target-kbps", "5", "--task", "segmentaton"], "did you mean segmentation?"),
        (["--verson"], "did you mean --version?"),
        (["encode", "a.mp4", "--zzz"], "there is no option --zzz; dvcc encode --help"),
    ],
)
def test_a_mistyped_word_is_named(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


COMPLETED = {
    "dvcc enc": "encode",
    "dvcc encode a.mp4 --target-k": "--target-kbps",
    "dvcc train con": "control",
    "dvcc train control teacher.lad": "teacher.ladder=",
    "dvcc evaluate benchmark codec=jp": "jpeg",
}


def test_bash_completes_commands_options_and_keys(capsys):
    assert main(["completion"]) == 0
    script = capsys.readouterr().out
    for line in COMPLETED:
        script += f"COMP_LINE='{line}'; COMP_POINT={len(line)}; _dvcc; echo \"${{COMPREPLY[*]}}\"\n"
    result = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == list(COMPLETED.values())
