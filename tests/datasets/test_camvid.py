"""CamVid on tiny copies of both of its layouts."""

import shutil
from fractions import Fraction

import numpy as np
import pytest

from dvcc import ConfigError
from dvcc.datasets import build_dataset
from dvcc.datasets.camvid import CLASSES, FROM_CITYSCAPES
from tests.datasets import replicas
from tests.datasets.replicas import HEIGHT, WIDTH, halves, store


def test_colours_become_the_11_classes(tmp_path):
    data = build_dataset("camvid", replicas.camvid(tmp_path))
    assert [(example.name, example.group) for example in data] == [("0001TP_006690", "0001TP"), ("Seq05VD_f00000", "Seq05VD")]
    assert data.num_classes == 11
    assert np.array_equal(data[0].load()[1][0], halves(0, 8)) and (data[1].load()[1] == 255).all()
    # One pixel of every category, in the order of the published list of colours, and classes by hand.
    published = (
        "Animal Archway Bicyclist Bridge Building Car CartLuggagePram Child Column_Pole Fence LaneMkgsDriv LaneMkgsNonDriv"
    )
    published += " Misc_Text MotorcycleScooter OtherMoving ParkingBlock Pedestrian Road RoadShoulder Sidewalk SignSymbol Sky"
    published += " SUVPickupTruck TrafficCone TrafficLight Train Tree Truck_Bus Tunnel VegetationMisc Wall"
    by_hand = [9, 1, 10, 1, 1, 8, 9, 9, 2, 7, 3, 3, 6, 10, 8, 4, 9, 3, 4, 4, 6, 0, 8, 2, 6, 8, 5, 8, 1, 5, 1]
    colours = {name: colour for merged in CLASSES.values() for name, colour in merged.items()}
    assert set(colours) == set(published.split()) and len(set(colours.values())) == 31
    labels = np.zeros((HEIGHT, WIDTH, 3))
    labels[0, : len(colours)] = [colours[name] for name in published.split()]
    store(tmp_path / "LabeledApproved_full/0001TP_006690_L.png", labels)
    assert build_dataset("camvid", tmp_path)[0].load()[1][0, 0].tolist() == by_hand + [255] * (WIDTH - len(by_hand))


def test_segnets_numbers_are_the_same_classes(tmp_path):
    data = build_dataset("camvid", replicas.camvid_segnet(tmp_path))
    assert [(example.name, example.group) for example in data] == [("0001TP_006690", "0001TP"), ("Seq05VD_f00000", "Seq05VD")]
    assert np.array_equal(data[0].load()[1][0], halves(0, 8)) and np.array_equal(data[1].load()[1][0], halves(255, 10))


def test_labelled_frames_in_a_row_are_clips(tmp_path):
    data = build_dataset("camvid_sequence", replicas.camvid_sequence(tmp_path), frames=4, stride=2)
    assert [example.name for example in data] == ["0016E5_07959", "0016E5_07973"]  # 7 of 17 frames each, single ones left out
    clip, labels = data[1].load()
    assert clip.num_frames == 4 and clip.fps == Fraction(30, 4) and labels.shape == (4, HEIGHT, WIDTH)
    assert all(np.array_equal(label, halves(0, 8)) for label in labels)
    assert data[1].source == tmp_path / "images" and data[1].group == "0016E5"
    assert len(build_dataset("camvid", tmp_path)) == 19  # the same files as single pictures
    with pytest.raises(ConfigError, match="at most 17 labelled frames in a row, too few for 10 with stride 2"):
        build_dataset("camvid_sequence", tmp_path, frames=10, stride=2)


def test_a_drive_that_is_labelled_once_a_second_is_no_video(tmp_path):
    replicas.camvid(tmp_path)
    with pytest.raises(ConfigError, match="at most 1 labelled frames in a row"):
        build_dataset("camvid_sequence", tmp_path, frames=2)


def test_the_classes_of_cityscapes_have_their_place_among_the_11():
    from torchvision.datasets import Cityscapes

    names = {label.train_id: label.name for label in Cityscapes.classes if 0 <= label.train_id < 19}
    ours = list(CLASSES)
    mapped = {names[i]: ours[label] for i, label in enumerate(FROM_CITYSCAPES)}
    assert mapped["sky"] == "sky" and mapped["vegetation"] == "tree" and mapped["sidewalk"] == "pavement"
    assert mapped["traffic light"] == mapped["traffic sign"] == "sign" and mapped["rider"] == mapped["motorcycle"] == "cyclist"
    assert {mapped[name] for name in ("car", "truck", "bus", "train")} == {"car"} and set(mapped.values()) == set(ours)


@pytest.mark.parametrize(
    ("replica", "labels", "label"),
    [(replicas.camvid, "LabeledApproved_full", "0001TP_006690_L.png"), (replicas.camvid_segnet, "valannot", "0001TP_006690.png")],
)
def test_missing_pieces_are_named(tmp_path, replica, labels, label):
    replica(tmp_path)
    (tmp_path / labels / label).unlink()
    with pytest.raises(
        ConfigError, match=rf"{labels}/{label} does not exist; expected: ROOT/701_StillsRaw_full/\*\.png and ROOT/"
    ):
        build_dataset("camvid", tmp_path)
    shutil.rmtree(tmp_path / labels)
    with pytest.raises(ConfigError, match=rf"{labels} does not exist; expected: .*SegNet's ROOT/val"):
        build_dataset("camvid", tmp_path)
