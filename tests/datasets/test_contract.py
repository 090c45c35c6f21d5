"""One contract for every data set: examples by name, clips, labels in the format of the task, and errors that name the file."""

import pickle

import pytest
import torch
from PIL import ExifTags, Image

from dvcc import Clip, ConfigError, VideoError
from dvcc.datasets import DATASETS, DataSet, Example, build_dataset
from dvcc.media.pictures import picture_size, read_rgb
from dvcc.media.protocols import Protocol
from tests.datasets import replicas


@pytest.fixture(params=DATASETS)
def name(request):
    return request.param


@pytest.fixture
def root(name, tmp_path):
    return getattr(replicas, name)(tmp_path)


def test_examples_are_clips_with_labels_of_the_task(name, root):
    data = build_dataset(name, str(root))
    names = [example.name for example in data]
    assert len(names) == len(set(names)) == len(data) and all(name.isprintable() for name in names)
    for example in data:
        clip, labels = example.load()
        assert isinstance(clip, Clip)
        if data.task == "segmentation":
            assert labels.dtype == torch.int64 and labels.shape == (clip.num_frames, clip.height, clip.width)
            assert set(labels.unique().tolist()) <= {*range(data.num_classes), 255}
        elif data.task == "detection":
            assert labels.dtype == torch.float32 and labels.shape[::2] == (clip.num_frames, 5)
            assert ((labels[..., :4] >= 0) & (labels[..., :4] <= 1)).all() and set(labels[..., 4].unique().tolist()) <= {0, 1, 2}
        elif data.task == "classification":
            assert labels.dtype == torch.int64 and labels.shape == (clip.num_frames,)
        elif data.task == "optical_flow":
            assert labels.dtype == torch.float32 and labels.shape == (clip.num_frames - 1, 2, clip.height, clip.width)
        else:
            assert labels is None and data.num_classes is None


def test_a_protocol_fits_clip_and_labels(name, root):
    clip, labels = build_dataset(name, root)[0].load(Protocol(resize=(48, 96), crop=(31, 34)))
    assert (clip.height, clip.width) == (30, 34)
    assert labels is None or labels.ndim < 3 or labels.shape[-1] == 5 or labels.shape[-2:] == (30, 34)


def test_a_crop_that_does_not_fit_names_the_example(name, root):
    example = build_dataset(name, root)[0]
    with pytest.raises(VideoError, match=r"a crop of 769x769 is larger than the \d+x\d+ picture") as error:
        example.load(Protocol(crop=(769, 769)))
    assert str(error.value).startswith(example.name)


def test_examples_can_be_sent_to_a_worker(name, root):
    example = build_dataset(name, root)[0]
    assert pickle.loads(pickle.dumps(example)).load()[0].digest == example.load()[0].digest


def test_an_unreadable_picture_among_good_ones_is_named_when_loaded(name, root):
    picture = root / replicas.PICTURE[name]
    picture.write_bytes(picture.read_bytes()[:60])
    sentences = []
    for example in build_dataset(name, root):
        try:
            example.load()
            sentences.append(None)
        except VideoError as error:
            sentences.append(str(error))
    (sentence,) = [text for text in sentences if text]
    assert None in sentences and str(picture) in sentence and "check that the file is complete" in sentence


@pytest.mark.parametrize("name", ["camvid", "camvid_sequence", "cityscapes", "cityscapes_sequence", "coco", "middlebury"])
def test_labels_of_another_size_than_their_picture_are_found_by_headers(name, root, monkeypatch):
    """Before any picture is decoded; a picture on its side (EXIF) is of the size that is seen."""
    labelled = {"cityscapes_sequence": "leftImg8bit_sequence/val/munster/munster_000001_000019_leftImg8bit.png"}
    picture = root / labelled.get(name, replicas.PICTURE[name])
    monkeypatch.setattr("PIL.Image.Image.load", lambda _: pytest.fail("decoded"))
    build_dataset(name, root).check()
    monkeypatch.undo()
    replicas.paint(picture, size=(48, 80))
    monkeypatch.setattr("PIL.Image.Image.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(VideoError, match="48x80"):
        build_dataset(name, root).check()
    monkeypatch.undo()
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (32, 64)).save(picture, exif=turned)
    assert picture_size(picture) == tuple(read_rgb(picture).shape[1:]) == (32, 64)


def test_an_empty_root_says_what_is_expected(name, tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=rf"{tmp_path}.*expected: "):
            build_dataset(name, root)


def test_unknown_names_and_options_are_answered(tmp_path):
    with pytest.raises(ConfigError, match=r"no data set 'kitti': choose one of camvid, .*cityscapes, .*imagenet"):
        build_dataset("kitti", tmp_path)
    with pytest.raises(ConfigError, match=r"cityscapes_sequence has no option strde: it has frames, stride"):
        build_dataset("cityscapes_sequence", tmp_path, strde=2)
    with pytest.raises(ConfigError, match=r"coco has no option stride: it has none"):
        build_dataset("coco", tmp_path, stride=2)


def test_a_name_means_one_example():
    example = Example("a", "a", lambda protocol: (None, None))
    with pytest.raises(ConfigError, match="two examples called a"):
        DataSet("mine", (example, example))


def test_a_part_is_spread_over_the_whole(tmp_path):
    data = build_dataset("cityscapes", replicas.cityscapes(tmp_path))
    part = data.spread(2)
    assert [example.name for example in part] == [data[0].name, data[2].name]
    assert (part.task, part.num_classes, len(data.spread(9))) == ("segmentation", 19, 3)
