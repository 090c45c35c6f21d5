"""Tiny copies of the official layouts of data sets, written by the tests that read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from dvcc import CRF, X264
from tests.conftest import make_scene

HEIGHT, WIDTH = 32, 64


def paint(path: Path, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A picture of smooth colour, so that 4:2:0 and JPEG change it little."""
    y, x = np.mgrid[: size[0], : size[1]]
    rgb = np.stack([60 + 2 * x % 120 + seed, 90 + y, 200 - x], -1).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


def store(path: Path, values: np.ndarray) -> Path:
    """A label image: class numbers (H, W), or colours (H, W, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
    return path


def halves(left: object, right: object) -> np.ndarray:
    """A label image of two values, side by side."""
    labels = np.empty((HEIGHT, WIDTH, *np.shape(left)), np.uint8)
    labels[:, : WIDTH // 2], labels[:, WIDTH // 2 :] = left, right
    return labels


def cityscapes(root: Path) -> Path:
    """Stored ids: 7 is road (train id 0), 26 a car (13), 9 parking (ignored), 255 a licence plate (ignored)."""
    for city, place, ids in (
        ("frankfurt", "000000_000294", (7, 26)),
        ("frankfurt", "000000_000576", (9, 255)),
        ("munster", "000001_000019", (33, 0)),
    ):
        paint(root / "leftImg8bit" / "val" / city / f"{city}_{place}_leftImg8bit.png")
        store(root / "gtFine" / "val" / city / f"{city}_{place}_gtFine_labelIds.png", halves(*ids))
        (root / "gtFine" / "val" / city / f"{city}_{place}_gtFine_color.png").write_bytes(b"never opened")
    store(root / "gtFine/val/munster/munster_000001_000019_gtFine_labelTrainIds.png", halves(17, 255))  # not what the ids say
    return root


def cityscapes_sequence(root: Path) -> Path:
    """Two snippets of one drive that follow each other without a gap, and one of another city."""
    for city, sequence, first in (("frankfurt", "000000", 275), ("frankfurt", "000000", 305), ("munster", "000001", 0)):
        for t in range(30):
            name = f"{city}_{sequence}_{first + t:06d}_leftImg8bit.png"
            paint(root / "leftImg8bit_sequence" / "val" / city / name, seed=t)
        label = f"{city}_{sequence}_{first + 19:06d}_gtFine_labelIds.png"
        store(root / "gtFine" / "val" / city / label, halves(7, 26))
    return root


def coco(root: Path) -> Path:
    """Three of the categories, not in order; two pictures of different shape and one without objects."""
    images = []
    for number, size in ((139, (32, 64)), (285, (48, 33)), (632, (32, 32))):
        paint(root / "val2017" / f"{number:012d}.jpg", size=size)
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": size[0], "width": size[1]})
    annotations = [
        {"image_id": 139, "category_id": 90, "bbox": [16, 8, 16, 16], "iscrowd": 0},
        {"image_id": 139, "category_id": 1, "bbox": [0, 0, 64, 32], "iscrowd": 1},
        {"image_id": 139, "category_id": 1, "bbox": [32, 0, 32, 32], "iscrowd": 0},
        {"image_id": 285, "category_id": 3, "bbox": [11, 12, 22, 36.5], "iscrowd": 0},  # half a pixel below the picture
        {"image_id": 285, "category_id": 3, "bbox": [5, 5, 0, 7], "iscrowd": 0},
    ]
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True)
    categories = [{"id": number} for number in (90, 1, 3)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return root


def imagenet(root: Path) -> Path:
    """Classes 2, 0 and 999 of the 1000."""
    for wnid, number, size in (("n01484850", 1, (40, 48)), ("n01440764", 293, (37, 51)), ("n15075141", 17, (64, 32))):
        paint(root / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", size=size)
    return root


def camvid(root: Path) -> Path:
    """Of two drives: sky and a lorry, void and a colour that means nothing."""
    for stem, colours in (("0001TP_006690", ((128, 128, 128), (192, 128, 192))), ("Seq05VD_f00000", ((0, 0, 0), (1, 2, 3)))):
        paint(root / "701_StillsRaw_full" / f"{stem}.png")
        store(root / "LabeledApproved_full" / f"{stem}_L.png", halves(*colours))
    return root


def camvid_segnet(root: Path) -> Path:
    """The same drives with numbers for labels."""
    for stem, numbers in (("0001TP_006690", (0, 8)), ("Seq05VD_f00000", (11, 10))):
        paint(root / "val" / f"{stem}.png")
        store(root / "valannot" / f"{stem}.png", halves(*numbers))
    return root


def camvid_sequence(root: Path, *, frames: int = 17, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A drive with labels at every second frame, and single frames of two others; sky beside a car, as numbers."""
    stems = [f"0016E5_{7959 + 2 * t:05d}" for t in range(frames)]
    for t, stem in enumerate(["0001TP_006690", *stems, "Seq05VD_f00000"]):
        paint(root / "images" / f"{stem}.png", seed=t, size=size)
        labels = np.zeros(size, np.uint8)
        labels[:, size[1] // 2 :] = 8
        store(root / "labels" / f"{stem}.png", labels)
    return root


def folder(root: Path) -> Path:
    """Pictures and a video of 48 frames among other files."""
    paint(root / "wide.png", size=(33, 65))
    paint(root / "site" / "day 1" / "tall.JPG", size=(64, 32))
    (root / "site" / "notes.txt").write_text("no picture")
    for hidden in ("._tall.jpg", "._yard.mp4", ".trash/old.png"):
        (root / "site" / hidden).parent.mkdir(exist_ok=True)
        (root / "site" / hidden).write_bytes(b"what a Mac leaves in archives")
    (root / "site" / "yard.mp4").write_bytes(X264().encode(make_scene(frames=48), CRF(12)).bitstream)
    return root


def corpus(root: Path) -> Path:
    """Two videos of one group on the side that is evaluated, and one that is trained on."""
    rows = [("a.mp4", "val", "yard", "people"), ("b.mp4", "val", "yard", "driving"), ("c.mp4", "train", "road", "driving")]
    for seed, (file, *_) in enumerate(rows):
        (root / file).write_bytes(X264().encode(make_scene(frames=24, seed=seed), CRF(12)).bitstream)
    lines = ["file\tsplit\tgroup\ttype", *["\t".join(row) for row in rows]]
    (root / "table.tsv").write_text("\n".join(lines) + "\n")
    return root


def middlebury(root: Path) -> Path:
    """Two pairs whose surfaces move by one pixel, and are not known at the left side."""
    for name in ("Grove", "Urban"):
        for i in (0, 1):
            paint(root / "other-data" / name / f"frame1{i}.png", seed=i)
        write_flow(root / "other-gt-flow" / name / "flow10.flo")
    return root


def write_flow(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A true flow of (1, -0.5) pixels."""
    flow = np.broadcast_to(np.array([1, -0.5], "<f4"), (*size, 2)).copy()
    flow[:, 0] = 1.7e9
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PIEH" + np.array(size[::-1], "<i4").tobytes() + flow.tobytes())
    return path


PICTURE = {
    "camvid_sequence": "images/0016E5_07961.png",
    "camvid": "701_StillsRaw_full/Seq05VD_f00000.png",
    "cityscapes": "leftImg8bit/val/munster/munster_000001_000019_leftImg8bit.png",
    "cityscapes_sequence": "leftImg8bit_sequence/val/munster/munster_000001_000004_leftImg8bit.png",
    "coco": "val2017/000000000285.jpg",
    "corpus": "a.mp4",
    "folder": "site/day 1/tall.JPG",
    "imagenet": "val/n01484850/ILSVRC2012_val_00000001.JPEG",
    "middlebury": "other-data/Urban/frame10.png",
}
"""One picture of each, which a default clip shows."""
