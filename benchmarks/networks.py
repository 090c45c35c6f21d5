"""Forward plus backward of the segmentation networks on this CPU. python benchmarks/networks.py"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from dvcc.tasks.nets import ESPNetv2, StudentSegmenter

ROUNDS, SIZE = 15, (288, 512)


def seconds(net: nn.Module) -> float:
    """One frame, gradient to the pixels: what training a control asks of a task network."""
    image = torch.randn(1, 3, *SIZE, requires_grad=True)
    began = time.perf_counter()
    net(image).square().mean().backward()
    return time.perf_counter() - began


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    teacher, student = (net.eval().requires_grad_(False) for net in (ESPNetv2(scale=2.0), StudentSegmenter()))
    pairs = [(seconds(teacher), seconds(student)) for _ in range(ROUNDS + 2)][2:]
    ratio = statistics.median(a / b for a, b in pairs)
    teacher_ms, student_ms = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    setting = f"{SIZE[1]}x{SIZE[0]}, {torch.get_num_threads()} threads"
    print(f"{setting}: ESPNetv2 s=2.0 {teacher_ms:.0f} ms, student {student_ms:.0f} ms, {ratio:.2f} x")
