"""CamVid on tiny copies of both of its layouts."""

import shutil

import numpy as np
import pytest

from dvcc import ConfigError
from dvcc.datasets import build_dataset
from dvcc.datasets.camvid import CLASSES
from tests.datasets import replicas
from tests.datasets.replicas import HEIGHT, WIDTH, halves, store


def test_colours_become_the_11_classes(tmp_path):
    data = build_dataset("camvid", replicas.camvid(tmp_path))
    assert [(one.name, one.group) for one in data] == [("0001TP_006690", "0001TP"), ("Seq05VD_f00000", "Seq05VD")]
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
    assert [(one.name, one.group) for one in data] == [("0001TP_006690", "0001TP"), ("Seq05VD_f00000", "Seq05VD")]
    assert np.array_equal(data[0].load()[1][0], halves(0, 8)) and np.array_equal(data[1].load()[1][0], halves(255, 10))


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
