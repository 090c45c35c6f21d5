"""RAFT (Teed and Deng, ECCV 2020) in the layouts that its weights are published in: torchvision's, the authors', SMURF's port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models.optical_flow import RAFT
from torchvision.models.optical_flow.raft import CorrBlock, FeatureEncoder

from dvcc.errors import CheckpointError
from dvcc.networks.weights import load_state, renamed

_LEAST = 128  # pixels of a side that torchvision's RAFT takes
_PREFIXES = ("module.", "raft.")  # of a network saved from DataParallel, and of SMURF's port
_LARGE = (64, 64, 96, 128, 256)  # channels of the encoders of raft_large

# The authors' names and torchvision's, first what stands for a whole name.
_ENCODER = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"\.(\d)\.conv(\d)\.", r".\1.convnormrelu\2.0."),
    (r"\.(\d)\.norm(\d)\.", r".\1.convnormrelu\2.1."),
)
_UPDATE = (
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.gru\.conv([zrq])\.", r"update_block.recurrent_block.convgru1.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
_TWICE = re.compile(r"\.\d\.norm3\.")  # in the authors' large network this is downsample.1 under a second name


class Raft(nn.Module):
    """torchvision's RAFT for pictures 0..1 of any size; it wants at least 128, multiples of 8.

    words: for a report, whose weights it has.
    """

    def __init__(self, net: RAFT, *, words: str = "") -> None:
        super().__init__()
        self.net, self.words = net, words

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the last of its 12 refinements, (N, 2, H, W)."""
        height, width = first.shape[-2:]
        more = [max(_LEAST, -(-side // 8) * 8) - side for side in (height, width)]
        padded = [F.pad(2 * x - 1, (0, more[1], 0, more[0]), mode="replicate") for x in (first, second)]
        return self.net(*padded)[-1][..., :height, :width]


class _RowByRow(CorrBlock):
    """Give the correlations of a neighbourhood row by row, as SMURF does.

    torchvision and RAFT's authors give them column by column.
    """

    def index_pyramid(self, centroids_coords: Tensor) -> Tensor:
        """Return (N, levels * (2 radius + 1) ** 2, h, w)."""
        features, side = super().index_pyramid(centroids_coords), 2 * self.radius + 1
        return features.unflatten(1, (self.num_levels, side, side)).transpose(2, 3).flatten(1, 3)


def build_smurf() -> RAFT:
    """Build SMURF's variant of RAFT large with random weights.

    It has instance normalisation without parameters in the context encoder, too, and correlations row by row.
    """
    context = FeatureEncoder(layers=_LARGE, norm_layer=nn.InstanceNorm2d)
    return get_model("raft_large", weights=None, context_encoder=context, corr_block=_RowByRow())


def load_raft(model: str, state: Mapping[str, Tensor], *, path: str | Path) -> Raft:
    """Build "raft_small", "raft_large" or "smurf" with weights under torchvision's names, the authors', or those of SMURF's port.

    A file for "smurf" that has the parameters of batch normalisation is torchvision's raft_large, and is run as that. Raises
    `CheckpointError` for weights of another network.
    """
    if not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} holds no state dict of {model}: take the file of its authors, or torchvision's")
    names = _plain(dict(state))
    authors = any(name.startswith(("fnet.", "cnet.")) for name in names)
    if authors:
        names = {renamed(name, (*_ENCODER, *_UPDATE)): x for name, x in names.items() if not _TWICE.search(name)}
    smurf = model == "smurf" and not any(name.endswith("running_mean") for name in names)
    net = build_smurf() if smurf else get_model("raft_large" if model == "smurf" else model, weights=None)
    load_state(net, names, path=path)
    layout = "the authors' names" if authors else "the layout of SMURF's port" if smurf else "torchvision's layout"
    return Raft(net, words=f"{Path(path).name} in {layout}")


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without a prefix that all of them have."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): x for name, x in state.items()}
    return state
