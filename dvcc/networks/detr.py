"""DETR (Carion et al., ECCV 2020), by `transformers`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from dvcc._packaged import require
from dvcc.networks.coco import COCO_NUMBERS
from dvcc.networks.detector import DetectionNet
from dvcc.networks.loading import Normalise, another_model
from dvcc.networks.weights import load_published, renamed
from dvcc.networks.zoo import ZOO

DETR_NETS = {
    "detr_resnet50": ("resnet50", False),
    "detr_resnet101": ("resnet101", False),
    "detr_resnet101_dc5": ("resnet101", True),
}
"""Backbone, and whether its last stage is dilated (DC5), by name."""

_COCO_NUMBERS = 91
_SMALLER_SIDE, _LARGER_SIDE = 800, 1333  # what DETR was evaluated with


class Detr(DetectionNet):
    """Its candidates are the 100 object queries; no two of them mean the same object."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(num_classes=len(COCO_NUMBERS), suppress=False)
        self.net, self.normalise = net, Normalise()
        self._classes = COCO_NUMBERS

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, 100, 84). Pictures are scaled to a smaller side of 800, as in its evaluation."""
        scaled = F.interpolate(images, _size_of(*images.shape[-2:]), mode="bilinear", align_corners=False, antialias=True)
        answer = self.net(pixel_values=self.normalise(scaled))
        x, y, width, height = answer.pred_boxes.unbind(-1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1).clamp(0, 1)
        return torch.cat([corners, answer.logits.softmax(-1)[..., self._classes]], -1)


def load_detr(model: str, *, weights: str | Path | None, random: bool) -> Detr:
    """Return a network of the dict above, with the weights of a file in transformers' names or the authors'.

    weights: None takes those of the hub.

    Raises `MissingExtraError` without the packages of the extra `zoo`, `CheckpointError` for weights that do not fit.
    """
    net_type, config = _import_transformers(*DETR_NETS[model])
    if random:
        return Detr(net_type(config))
    path = Path(weights or ZOO["detection", model].weights.fetch(model))
    state = _transformers_names(dict(load_published(path, key="task.weights")))
    try:
        # Through transformers' own loader: it knows what older files call things.
        with _quiet_transformers():
            net, report = net_type.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise another_model(path, model, str(error)) from error
    if report["missing_keys"]:
        raise another_model(path, model, f"no {min(report['missing_keys'])}")
    return Detr(net)


# The authors' names and those of the hub's files.
_NAMES = (
    (r"^backbone\.0\.body\.", "model.backbone.conv_encoder.model."),
    (r"^class_embed\.", "class_labels_classifier."),
    (r"^bbox_embed\.", "bbox_predictor."),
    (r"^query_embed\.", "model.query_position_embeddings."),
    (r"^input_proj\.", "model.input_projection."),
    (r"^transformer\.decoder\.norm\.", "model.decoder.layernorm."),
    (r"^transformer\.", "model."),
    (r"\.multihead_attn\.", ".encoder_attn."),
    (r"\.linear(\d)\.", r".fc\1."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"(\.decoder\.layers\.\d+)\.norm2\.", r"\1.encoder_attn_layer_norm."),
    (r"(layers\.\d+)\.norm[23]\.", r"\1.final_layer_norm."),
)
_JOINED = re.compile(r"(.*)\.in_proj_(weight|bias)")  # queries, keys and values of an attention in one tensor


def _transformers_names(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict under the names of the hub's files; of the authors' `.pth`, what it has under "model"."""
    inner = state.get("model", state)
    if not isinstance(inner, dict) or "query_embed.weight" not in inner:
        return state
    named: dict[str, Any] = {}
    for name, tensor in inner.items():
        name = renamed(name, _NAMES)
        if joined := _JOINED.fullmatch(name):
            parts = zip("qkv", tensor.chunk(3), strict=True)
            named |= {f"{joined[1]}.{letter}_proj.{joined[2]}": part for letter, part in parts}
        else:
            named[name] = tensor
    return named


def _import_transformers(backbone: str, dilated: bool) -> tuple[Any, Any]:
    """Return the class and the configuration; no weights of the backbone, which the file has too."""
    require("transformers", "timm", wanted_by="DETR", extra="zoo")
    from transformers import DetrConfig, DetrForObjectDetection

    config: Any = DetrConfig  # its keywords depend on the backbone
    return DetrForObjectDetection, config(
        backbone=backbone, use_timm_backbone=True, use_pretrained_backbone=False, dilation=dilated, num_labels=_COCO_NUMBERS
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its progress bar and its page-long report: what is missing is said in one sentence."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _size_of(height: int, width: int) -> list[int]:
    """Return the smaller side 800, unless the larger would pass 1333."""
    smaller = min(_SMALLER_SIDE, round(_LARGER_SIDE * min(height, width) / max(height, width)))
    return [max(smaller, int(smaller * side / min(height, width))) for side in (height, width)]
