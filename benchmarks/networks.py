"""Students beside their teachers on this CPU, forward and backward. python benchmarks/networks.py"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from dvcc.networks.detection import load_detection_net
from dvcc.networks.espnetv2 import ESPNetv2
from dvcc.networks.student import StudentSegmenter

ROUNDS = 15


def seconds(net: nn.Module, size: tuple[int, int]) -> tuple[float, float]:
    """One frame: forward alone, and with the gradient to the pixels, which is what training a control asks of a task network."""
    image = torch.rand(1, 3, *size, requires_grad=True)
    began = time.perf_counter()
    answer = net(image)
    forward = time.perf_counter() - began
    answer.square().mean().backward()
    return forward, time.perf_counter() - began


def compare(name: str, teacher: nn.Module, student: nn.Module, size: tuple[int, int]) -> None:
    """Print the median times, and that of the ratio, over pairs of runs."""
    nets = [net.eval().requires_grad_(False) for net in (teacher, student)]
    pairs = [[seconds(net, size) for net in nets] for _ in range(ROUNDS + 2)][2:]
    print(f"{name}, {size[1]}x{size[0]}, {torch.get_num_threads()} threads")
    for part, what in enumerate(("forward", "forward and backward")):
        times = [(teachers[part], students[part]) for teachers, students in pairs]
        ratio = statistics.median(a / b for a, b in times)
        teacher_ms, student_ms = (1000 * statistics.median(column) for column in zip(*times, strict=True))
        print(f"  {what}: teacher {teacher_ms:.0f} ms, student {student_ms:.0f} ms, {ratio:.2f} x")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    compare("ESPNetv2 s=2.0 and its student", ESPNetv2(scale=2.0), StudentSegmenter(), (288, 512))
    compare("FastestDet and its student", load_detection_net("fastestdet"), load_detection_net("student"), (224, 512))
