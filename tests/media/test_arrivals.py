"""A live stream without time stamps has those of its arrival, if that is asked for."""

import os
import threading
import time

import av
import pytest

from dvcc.cli import main
from dvcc.encoding.live import encode_live
from dvcc.errors import ConfigError
from dvcc.media import arrivals
from dvcc.media.damage import Damage
from dvcc.media.probe import probe


def presented(path, monkeypatch, moments):
    """Seconds at which pictures are shown whose packets arrive at these moments; the source, and what was corrected."""
    left = iter(moments)
    monkeypatch.setattr(arrivals, "monotonic", lambda: next(left))
    damage = Damage()
    with av.open(str(path)) as container:
        probed = probe(path, container, damage=damage, ahead=False, clock=True)
        base = probed.source.picture.time_base
        times = [damage.corrections.with_gaps(frame.pts) * base for frame in probed.read(container, damage)]
    return [float(t - times[0]) for t in times], probed.source, damage.corrections


@pytest.fixture
def camera(make_video):
    return make_video("camera.mjpeg", codec="mjpeg", pix_fmt="yuvj420p", frames=40)


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_pictures_are_shown_when_they_arrived(camera, monkeypatch, fps):
    times, source, corrections = presented(camera, monkeypatch, [100 + t / fps for t in range(40)])
    assert times == pytest.approx([t / fps for t in range(40)], abs=0.002) and source.picture.fps == fps
    assert not corrections.sentences() and [note for note in source.notes if f"about {fps} fps" in note]


def test_what_waited_while_ffmpeg_looked_is_spaced_as_the_rest(camera, monkeypatch):
    times, source, corrections = presented(camera, monkeypatch, [50.7 + max(0, t - 7) / 10 for t in range(40)])
    assert times == pytest.approx([t / 10 for t in range(40)], abs=0.002) and source.picture.fps == 10
    assert not corrections.outliers


def test_a_camera_that_rests_has_a_pause(camera, monkeypatch):
    times, _, corrections = presented(camera, monkeypatch, [t / 10 + 30 * (t >= 25) for t in range(40)])
    assert times[24] == pytest.approx(2.4) and times[25] == pytest.approx(32.5) and len(corrections.gaps) == 1


def test_a_pipe_at_its_own_pace(camera, tmp_path, control):
    os.mkfifo(tmp_path / "pipe")
    data = camera.read_bytes()

    def feed():
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            for part in data.split(b"\xff\xd8\xff")[1:]:
                pipe.write(b"\xff\xd8\xff" + part)
                time.sleep(0.02)

    writer, began = threading.Thread(target=feed), time.monotonic()
    writer.start()
    result = encode_live(
        str(tmp_path / "pipe"), tmp_path / "out.ts", target_kbps=80, control=None, preset="ultrafast", form="mjpeg", clock=True
    )
    writer.join()
    assert result.stats.num_frames == 40 and 0.5 < result.stats.seconds < time.monotonic() - began + 1


def test_words_that_do_not_go_with_it(make_video, camera, tmp_path, capsys):
    with_b_frames = make_video("b.mkv", options={"bf": "2", "b-adapt": "0"})
    with pytest.raises(ConfigError, match="has B frames"):
        encode_live(str(with_b_frames), tmp_path / "o.ts", target_kbps=80, control=None, clock=True)
    words = ["encode", str(camera), str(tmp_path / "o.ts"), "--target-kbps", "80", "--controller", "abr", "--clock"]
    assert main(words) == 2 and "--clock is for --live" in capsys.readouterr().err
    assert main([*words, "--live", "--fps", "5"]) == 2 and "leave one of the two out" in capsys.readouterr().err
