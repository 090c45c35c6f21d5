"""Our DeepLabV3 and UPerNet beside MMSegmentation's own modules, with the same random weights.

    pip install mmsegmentation==1.2.2 mmcv-lite==2.1.0 mmengine ftfy regex prettytable
    python -m benchmarks.mmsegmentation_parity [NAME ...]

Prints the largest difference of the logits, absolute and relative to their spread. The figures are in README.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from dvcc.networks.mmsegmentation import MMSEGMENTATION_NETS, EncoderDecoder, build_mmsegmentation


class _Unbuilt(ModuleType):
    """mmcv-lite has no compiled operators. These networks need none, but MMSegmentation imports all of its own at once."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def theirs(name: str) -> nn.Module:
    """MMSegmentation's network, from the configuration file that its package ships; batch norm for one process."""
    sys.modules.setdefault("mmcv._ext", _Unbuilt("mmcv._ext"))
    import mmseg
    from mmengine import Config
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    folder = Path(mmseg.__file__).parent / ".mim" / "configs" / name.partition("_")[0]
    config = Config.fromfile(folder / f"{name}.py").model
    config.pretrained = config.train_cfg = None

    def single(node: object) -> None:
        if isinstance(node, dict):
            if node.get("type") == "SyncBN":
                node["type"] = "BN"
            for value in node.values():
                single(value)

    single(config)
    return MODELS.build(config).eval()


def randomise(net: nn.Module, *, seed: int) -> None:
    """Weights that keep the signal's size, and running statistics that are not the initial ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.data = torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.running_var):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data = 0.4 * torch.rand(tensor.shape, generator=generator) - 0.2


def ours(name: str, network: nn.Module) -> EncoderDecoder:
    """Ours with the weights of `network`; every name and shape must fit."""
    net = build_mmsegmentation(name)
    net.load_state_dict({key: x for key, x in network.state_dict().items() if not key.startswith("auxiliary_head.")})
    return net.eval()


@torch.no_grad()
def largest_difference(name: str, *, size: tuple[int, int] = (129, 97)) -> tuple[float, float]:
    """Of the logits of one picture, absolute and relative to their standard deviation."""
    network = theirs(name)
    randomise(network, seed=0)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = network.encode_decode(image, [{"ori_shape": size, "img_shape": size, "pad_shape": size}])
    difference = (ours(name, network)(image) - expected).abs().max()
    return float(difference), float(difference / expected.std())


if __name__ == "__main__":
    for chosen in sys.argv[1:] or MMSEGMENTATION_NETS:
        print(f"{chosen:48s} %.2e absolute, %.2e relative" % largest_difference(chosen))
