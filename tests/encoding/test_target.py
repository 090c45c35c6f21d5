"""The target of a live stream, from Python, a file or a FIFO."""

import os
import threading

import av
import pytest

from dvcc.cli import main
from dvcc.encoding.live import encode_live
from dvcc.encoding.target import LiveTarget, WrittenTarget, target_of
from dvcc.errors import ConfigError


class Steps(LiveTarget):
    """Says another target for every frame, as a thread might that sets it."""

    def __init__(self, targets):
        self.targets = list(targets)
        super().__init__(self.targets[0])

    @property
    def target_kbps(self):
        if self.targets:
            LiveTarget.target_kbps.fset(self, self.targets.pop(0))
        return self._kbps

    @target_kbps.setter
    def target_kbps(self, kbps):
        LiveTarget.target_kbps.fset(self, kbps)


def test_a_target_is_set_while_the_stream_runs(make_video, tmp_path, control):
    path = make_video("in.mkv", frames=60)
    steps = Steps([90] * 21 + [30] * 20 + [1e9] + [30])
    result = encode_live(str(path), tmp_path / "out.ts", target_kbps=steps, control=control, preset="ultrafast")
    assert result.stats.num_frames == 60 and result.num_targets == 2 and 30 < result.target_kbps < 90
    assert [note for note in result.notes if "out of reach" in note and "the target before was kept" in note]
    with av.open(str(tmp_path / "out.ts")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert sum(keys) == 4  # three GOPs, and one that begins where the target falls


def test_a_file_is_read_again(tmp_path):
    path = tmp_path / "kbps"
    path.write_text("600\n")
    target = target_of(str(path))
    assert isinstance(target, WrittenTarget) and target.target_kbps == 600
    path.write_text("200.5")
    assert target.target_kbps == 200.5
    for unfinished in ("", "2x", "-4", "nan"):
        path.write_text(unfinished)
        assert target.target_kbps == 200.5
    path.unlink()
    assert target.target_kbps == 200.5
    (tmp_path / "other").write_text("700")
    (tmp_path / "other").rename(path)
    assert target.target_kbps == 700
    (sentence,) = target.sentences()
    assert "held no positive number 4 times" in sentence and "'nan'" in sentence


def test_the_last_line_of_a_fifo_holds(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("600\n"))
    writer.start()
    target = WrittenTarget(path)
    writer.join()
    assert target.target_kbps == 600
    for text, kbps in (("500\n400\n", 400), ("30", 400), ("0\n", 300), ("x\n", 300), ("600\n", 600)):
        path.write_text(text)
        assert target.target_kbps == kbps
    assert "'x'" in target.sentences()[0]
    target.close()


def test_what_is_no_target_is_refused(tmp_path, make_video, capsys):
    assert target_of("600").target_kbps == 600 and not target_of("600").sentences()
    for word in ("-3", "nan", "0"):
        with pytest.raises(ConfigError, match="positive number"):
            target_of(word)
    with pytest.raises(ConfigError, match="no number, and no file that can be read"):
        target_of(str(tmp_path / "none"))
    (tmp_path / "empty").write_text("")
    with pytest.raises(ConfigError, match="has to hold a positive number"):
        target_of(str(tmp_path / "empty"))
    (tmp_path / "empty").write_text("5")
    written = target_of(str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="write it there"):
        written.target_kbps = 3
    words = ["encode", str(make_video()), str(tmp_path / "out.ts"), "--controller", "abr"]
    words += ["--target-kbps", str(tmp_path / "empty")]
    assert main(words) == 2 and "only --live reads a target from a file" in capsys.readouterr().err


def test_the_command_follows_a_file(make_video, tmp_path, capsys):
    (tmp_path / "kbps").write_text("80")
    words = ["encode", "--live", str(make_video("in.mkv", frames=30)), str(tmp_path / "out.ts")]
    words += ["--target-kbps", str(tmp_path / "kbps"), "--controller", "abr", "--preset", "ultrafast"]
    assert main(words) == 0 and "kbit/s of 80 asked" in capsys.readouterr().out
