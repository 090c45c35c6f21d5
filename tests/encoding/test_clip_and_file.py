"""A video is coded alike from a file and from memory, into a file and into memory: there is one stack of rate control."""

import weakref
from io import BytesIO

import av
import numpy as np
import pytest

from dvcc import CRF, X264, ConfigError, read_clip
from dvcc.control.analysis import Lost
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.deployed.stream import ControlStream
from dvcc.encoding.file import encode_video
from dvcc.encoding.live import encode_live
from dvcc.encoding.plan import EncodePlan
from dvcc.media.format import ClipSource
from dvcc.media.probe import open_video
from dvcc.rate_control import Means, build_rate_controller
from dvcc.rate_control.analysed import AnalysedControl
from dvcc.rate_control.saliency import GradedSaliency
from dvcc.tasks import ReconstructionTask
from tests.conftest import make_scene
from tests.videos import lively, lively_network, write_video

KBPS = 200.0


def packets_of(file):
    """Video packets in coding order, and which of them are key frames."""
    with av.open(file) as container:
        return list(zip(*((bytes(p), p.is_keyframe) for p in container.demux(video=0) if p.size), strict=True))


def write_source(path, *, frames=34, size=(64, 96)):
    path.write_bytes(X264("ultrafast").encode(make_scene(frames, *size), CRF(8)).bitstream)
    return path


def encode_file(video, out, controller):
    return encode_video(EncodePlan(open_video(video), out, KBPS, controller))


class Distance:
    """Reads what a picture has lost off its luma."""

    name, frames = "the distance", 1

    def lost(self, uncoded, coded, **tags):
        error = np.abs(uncoded[0][0].astype(int) - coded[0][0])
        error = np.pad(error, [(0, -side % 16) for side in error.shape])
        degradation = error.reshape(error.shape[0] // 16, 16, -1, 16).mean((1, 3)) / 255
        return Lost(degradation.clip(1e-4), np.log(degradation + 1e-3))


def controller_of(name, threads=2):
    if name == "analysed":
        network = lively_network(extra_planes=3, width=0, analysis={})
        return AnalysedControl(deploy(network), X264("veryfast", gop=10, threads=threads), Distance())
    return build_rate_controller(name, Means(X264("veryfast", gop=10, threads=threads), lively()))


@pytest.mark.parametrize("size", [(64, 96), (66, 130), (144, 176)])
@pytest.mark.parametrize("name", ["abr2", "objects", "learned", "learned_map_corrected", "analysed"])
def test_a_whole_file_and_the_same_file_as_a_clip_are_the_same_bytes(tmp_path, name, size):
    video, controller = write_source(tmp_path / "in.mp4", size=size), controller_of(name)
    result = encode_file(video, tmp_path / "out.mp4", controller)
    clip = controller.encode(read_clip(video), KBPS)
    packets, keys = packets_of(str(tmp_path / "out.mp4"))
    assert packets == packets_of(BytesIO(clip.bitstream))[0]
    assert sum(keys) >= 4 and len(packets) == 34
    assert (result.num_frames, result.num_encodes) == (clip.num_frames, clip.num_encodes)
    assert abs(result.bits - clip.bits) <= 16  # the parameter sets say the unit of time, which is the file's
    assert result.bitrate_kbps == pytest.approx(clip.bitrate_kbps, rel=1e-3)


@pytest.mark.parametrize("name", ["abr1_vbv", "abr2_corrected", "crf", "cqp", "learned_corrected", "learned_vbv"])
def test_other_controllers_take_videos_as_well(tmp_path, name):
    """Into memory, where only what is coded is held. A raw stream has the clock of a clip, so that even the headers are alike."""
    video = write_video(tmp_path / "in.h264", frames=34, colour={"colorspace": 1, "color_range": 1})
    controller = controller_of(name, threads=1)  # with VBV, x264 is not repeatable on two
    from_file, from_clip = (controller.encode(source, KBPS) for source in (open_video(video), read_clip(video)))
    assert packets_of(BytesIO(from_file.bitstream)) == packets_of(BytesIO(from_clip.bitstream))
    np.testing.assert_array_equal(from_file.bits_per_frame, from_clip.bits_per_frame)
    assert from_file.num_encodes == from_clip.num_encodes


def test_offsets_are_decided_once_for_all_passes(tmp_path, monkeypatch):
    decided = []
    original = ControlStream.decide
    monkeypatch.setattr(
        ControlStream,
        "decide",
        lambda self, small, *more, **planes: decided.append(len(small)) or original(self, small, *more, **planes),
    )
    result = controller_of("learned_corrected").encode(read_clip(write_source(tmp_path / "in.mp4")), 60.0)
    assert result.num_encodes == 4 and sum(decided) == 34


def test_what_looks_at_a_whole_clip_takes_no_video(tmp_path):
    video = open_video(write_source(tmp_path / "in.mp4", frames=4))
    with pytest.raises(ConfigError, match="GradedSaliency takes clips only: read the video, or a part of it, with read_clip"):
        GradedSaliency(ReconstructionTask()).encode(video, KBPS)


@pytest.mark.parametrize("name", ["abr2", "objects", "learned", "learned_map"])
def test_memory_does_not_grow_with_the_video(name):
    """Every pass reads the source again, and few frames are alive at once: a GOP, and what waits for the encoder."""
    alive = set()

    class Watched(ClipSource):
        num_frames, most = None, 0  # as of a file that does not say its length

        def frames(self):
            for frame in super().frames():
                alive.add(id(frame))
                weakref.finalize(frame, alive.discard, id(frame))
                type(self).most = max(self.most, len(alive))
                yield frame

    coded = controller_of(name).encode(Watched(make_scene(90)), KBPS)
    assert coded.num_frames == 90 and 8 < Watched.most < 32 and not alive


@pytest.mark.parametrize("name", ["learned", "abr1"])
def test_a_live_stream_is_the_controller_with_vbv(tmp_path, name):
    """What `evaluate.py control` measures as learned_vbv is what `dvcc encode --live` sends."""
    video = write_video(tmp_path / "in.mkv", frames=40, colour={"colorspace": 1, "color_range": 1})
    control = lively() if name == "learned" else None
    codecs = []
    result = encode_live(
        str(video),
        tmp_path / "out.mp4",
        target_kbps=KBPS,
        control=control,
        gop=20,
        threads=1,
        begun=lambda source, codec: codecs.append(codec),
    )
    controller = build_rate_controller(f"{name}_vbv", Means(codecs[0], control))
    clip = controller.encode(open_video(video), KBPS)
    assert packets_of(str(tmp_path / "out.mp4")) == packets_of(BytesIO(clip.bitstream))
    assert result.stats.num_frames == 40 and abs(result.stats.bits - clip.bits) <= 16
