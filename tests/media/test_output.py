"""What cannot be written is known before anything is encoded."""

import itertools
import shutil
import tempfile
from collections import namedtuple

import av
import pytest

from dvcc import X264
from dvcc.encoding.file import encode_video
from dvcc.encoding.live import encode_live
from dvcc.encoding.plan import EncodePlan
from dvcc.errors import DvccError
from dvcc.media import copied
from dvcc.media.output import check_output
from dvcc.media.probe import open_video
from dvcc.rate_control.abr import AverageBitrate
from tests.streams import write_pieces

Usage = namedtuple("Usage", "total used free")


def test_a_name_that_the_file_system_refuses(tmp_path):
    with pytest.raises(DvccError, match="File name too long; give a shorter name"):
        check_output(tmp_path / f"{'n' * 249}.mp4", tmp_path / "in.mp4")
    check_output(tmp_path / "12:30:00 %d.mp4", tmp_path / "in.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("full", ["out", "temporary"])
def test_a_folder_without_room_is_named(make_video, tmp_path, monkeypatch, full):
    folders = {"out": tmp_path / "out", "temporary": tmp_path / "temporary"}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders["temporary"]))
    source = open_video(make_video(frames=50))
    free = {str(folder): 1000 if name == full else 10**9 for name, folder in folders.items()}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, free[str(folder)]))
    with pytest.raises(DvccError, match=f"in {folders[full]}, where 0 MB are free") as raised:
        EncodePlan(source, folders["out"] / "out.mp4", 150, AverageBitrate(X264("ultrafast")))
    assert ("TMPDIR" in str(raised.value)) == (full == "temporary") and not list(folders[full].iterdir())
    free[str(folders[full])] = 10**9
    EncodePlan(source, folders["out"] / "out.mp4", 150, AverageBitrate(X264("ultrafast")))


@pytest.mark.parametrize("looked", [True, False])
def test_broken_audio_ends_no_stream(tmp_path, monkeypatch, looked):
    """The muxer holds it back, and refuses it when it is given a picture; looked: that it is broken is seen before."""
    path, number = write_pieces(tmp_path / "in.ts", [(100, 0)], audio=True), itertools.count()

    def begins(packet):
        broken = next(number) in (40, 60)
        return not broken

    def broken(self, other):
        packets = fit(self, other)
        if next(number) in (40, 60) and packets:
            noise = av.Packet(bytes(1))
            noise.pts, noise.dts, noise.time_base = packets[0].pts, packets[0].dts, packets[0].time_base
            noise.stream = packets[0].stream
            return [noise]
        return packets

    fit = copied.StreamCopy.fit
    if looked:
        monkeypatch.setattr(copied, "_begins_adts", begins)
    else:
        monkeypatch.setattr(copied.StreamCopy, "fit", broken)
    result = encode_live(str(path), tmp_path / "out.ts", target_kbps=100, control=None, preset="ultrafast")
    assert result.stats.num_frames == 100 and result.damage.corrections.left_out["audio"] == 2
    with av.open(str(tmp_path / "out.ts")) as container:
        assert sum(bool(packet.size) for packet in container.demux(video=0)) == 100


def test_what_begins_with_no_header_is_seen():
    for head, adts in ((b"\xff\xf1", True), (b"\xff\xf9", True), (b"\xff\xfb", False), (bytes(2), False)):
        assert copied._begins_adts(head + bytes(9)) == adts and not copied._begins_adts(head)


@pytest.mark.parametrize("name", ["out.ts", "out.mp4"])
def test_audio_that_begins_too_late_to_be_known_is_left_out_with_a_word(tmp_path, name):
    path = write_pieces(tmp_path / "in.ts", [(100, 0)], audio=True, audio_apart=2)
    result = encode_live(str(path), tmp_path / name, target_kbps=100, control=None, preset="ultrafast")
    assert result.stats.num_frames == 100
    assert [note for note in result.notes if "audio (aac) does not begin with the video" in note]


@pytest.mark.parametrize(("codec", "advice"), [("pcm_alaw", ".mov"), ("pcm_mulaw", ".mov"), ("flac", ".mkv")])
def test_what_takes_the_audio_is_tried_and_told(make_video, tmp_path, codec, advice):
    """Cameras speak G.711, which no mp4 has; flac is not for MPEG-TS."""
    path, out = make_video("in.nut", frames=20, audio=codec), tmp_path / ("out.ts" if codec == "flac" else "out.mp4")
    (note,) = [note for note in str(EncodePlan(open_video(path), out, 150, AverageBitrate(X264()))).splitlines() if codec in note]
    assert note.endswith(f"is left out: {advice} takes it")
    plan = EncodePlan(open_video(path), out.with_suffix(advice), 150, AverageBitrate(X264("ultrafast")))
    assert not [note for note in encode_video(plan).notes if codec in note]
    with av.open(str(plan.out)) as container:
        assert container.streams.audio[0].codec_context.name == codec and sum(1 for _ in container.decode(audio=0)) > 0
