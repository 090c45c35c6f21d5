"""What is measured: one sweep each, on a stated subset, so that all of them end within an hour on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from dvcc.codecs import CRF, JPEG, X264, Chain, Codec, Rate
from dvcc.codecs.plain import PerspectiveX264
from dvcc.media.protocols import PAPER, Protocol

QUALITIES = (1, 3, 5, 10, 20, 30, 50, 60, 80, 90, 95, 99)
_STREET_QUALITIES = (1, 3, 20, 30, 50, 60, 80, 90, 95, 99)
_FEW_QUALITIES = (5, 20, 50, 80, 95)
QPS = (10, 15, 20, 30, 40, 45, 51)
_PAIR_QPS = (0, 15, 30, 40, 51)
_FEW_QPS = (15, 25, 35, 45)
_CLASSIFIERS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
_DETECTORS = ("nanodet_plus", "picodet", "deimv2", "fastestdet", "student")
_SEGMENTERS = ("efficientvit_b0", "espnetv2_s1", "espnetv2", "student", "deeplab_257")
_FLOWS = ("raft_small", "ours")


@dataclass(frozen=True)
class Material:
    """Pictures or clips of a task.

    data, root: a data set, and its folder below the assets; options: of it. count: examples, evenly over the data set. words: for
    the page. blocks: whether examples of one group (clips of one drive) count as independent where intervals are drawn.
    """

    task: str
    data: str
    root: str
    words: str
    count: int
    protocol: Protocol = field(default_factory=lambda: Protocol(rgb=True))
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    blocks: bool = False


@dataclass(frozen=True)
class Study:
    """One sweep.

    name: of its files. rate: what the levels are. first: a coding before the pictures are anybody's reference, as in a data set
    that was coded before it was published.
    """

    name: str
    title: str
    material: Material
    networks: tuple[str, ...]
    codec: Codec
    rate: str
    levels: tuple[float, ...]
    first: tuple[Codec, Rate] | None = None


def _rgb(protocol: Protocol) -> Protocol:
    return replace(protocol, rgb=True)


_PICTURES = Material(
    "classification", "imagenet", "labelled/classification", "ImageNet pictures", 32, _rgb(PAPER["classification"])
)
_BOXES = Material("detection", "coco", "labelled/detection", "COCO pictures", 20, _rgb(PAPER["detection"]))
_STREETS = Material("segmentation", "camvid", "labelled/segmentation/camvid_pictures", "CamVid pictures, 480x360", 6, blocks=True)
_DRIVE = Material(
    "segmentation",
    "camvid_sequence",
    "labelled/segmentation/camvid_clip",
    "clips of 4 frames of one CamVid drive, 480x360",
    3,
    options={"frames": 4},
    blocks=True,
)
_PAIRS = Material("optical_flow", "middlebury", "labelled/flow", "Middlebury pairs", 3)
_TRAFFIC = {"per_video": 1, "split": "train", "kinds": ("driving", "street/traffic")}
_CLIPS = Material(
    "optical_flow",
    "corpus",
    "corpus",
    "clips of 8 frames, stride 3, of traffic, the middle 256x256",
    3,
    Protocol(crop=(256, 256), rgb=True),
    {"frames": 8, "stride": 3, **_TRAFFIC},
)
_FRAMES = Material(
    "segmentation", "corpus", "corpus", "first frames of videos of traffic", 6, options={"frames": 1, "stride": 1, **_TRAFFIC}
)

_H264 = PerspectiveX264(pixel_format="yuv444p")
FIRST: tuple[Codec, Rate] = (X264(), CRF(28))
"""The first of two codings: x264 at a rate factor that is common on the web. It codes 4:2:0."""


def _jpeg(material: Material, networks: tuple[str, ...], levels: tuple[float, ...] = QUALITIES) -> Study:
    name = material.task.replace("optical_", "")
    return Study(f"jpeg-{name}", f"{name.capitalize()} on JPEG", material, networks, JPEG(), "quality", levels)


def _formats(material: Material, network: str, count: int) -> tuple[Study, ...]:
    """H.264 in the paper's 4:4:4, and in the 4:2:0 that cameras and players have, of the same RGB pictures."""
    name = material.task.replace("optical_", "")
    few = replace(material, count=count)
    formats = (("444", "4:4:4", _H264), ("420", "4:2:0", PerspectiveX264()))
    return tuple(
        Study(f"h264-{name}-{form}", f"{name.capitalize()} on H.264 in {words}", few, (network,), codec, "cqp", _FEW_QPS)
        for form, words, codec in formats
    )


def _twice(material: Material, network: str) -> tuple[Study, ...]:
    """JPEG of pictures as they are, of pictures that were coded before, and of such ones when nobody knows it."""
    given = replace(material, protocol=replace(material.protocol, rgb=False))
    once = Study("once", "JPEG of frames as they are", given, (network,), JPEG(), "quality", _FEW_QUALITIES)
    return (
        once,
        replace(once, name="twice", title="JPEG of frames that H.264 coded before", codec=Chain(*FIRST, JPEG())),
        replace(once, name="hidden", title="the same, against the answers on the coded frames", first=FIRST),
    )


STUDIES: tuple[Study, ...] = (
    _jpeg(_PICTURES, _CLASSIFIERS),
    _jpeg(_BOXES, _DETECTORS),
    _jpeg(_STREETS, _SEGMENTERS, _STREET_QUALITIES),
    Study("h264-flow-true", "Flow on H.264, pairs with true flow", _PAIRS, _FLOWS, _H264, "cqp", _PAIR_QPS),
    Study("h264-segmentation", "Segmentation on H.264, the labelled drive", _DRIVE, _SEGMENTERS[:3], _H264, "cqp", QPS),
    Study("h264-flow", "Flow on H.264, clips of traffic", _CLIPS, _FLOWS, _H264, "cqp", (0, 10, 15, 25, 35, 45, 51)),
    _jpeg(_PAIRS, _FLOWS, _FEW_QUALITIES[:4]),
    *_twice(_FRAMES, "efficientvit_b0"),
    *_formats(_PICTURES, "efficientnet_lite0", 16),
    *_formats(_BOXES, "nanodet_plus", 12),
    *_formats(_DRIVE, "efficientvit_b0", 3),
    *_formats(_PAIRS, "ours", 3),
)
"""In the order of their worth: a run that is stopped has measured the first ones."""
