"""How well the flow network predicts a frame from a later one. python benchmarks/flow_warp.py VIDEO [VIDEO ...]"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch

from dvcc.media.clips import read_clip
from dvcc.networks.flow import FlowNetwork, load_flow
from dvcc.pretraining.flow import warp_gain

SIZE, STRIDES, MAX_PAIRS, ROUNDS = (288, 512), (3, 1), 40, 15


def milliseconds(network: FlowNetwork, *, size: tuple[int, int]) -> float:
    """Median time of one pair on the threads that torch has."""
    pair = torch.rand(2, 1, 3, *size)
    taken = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 2):
            began = time.perf_counter()
            network(*pair)
            taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken[2:])


def main(videos: list[str]) -> None:
    """Print the gain in dB of every video and stride, then the time per pair."""
    torch.set_flush_denormal(True)
    network = load_flow()
    print("| video | stride | pairs | no motion, dB | warped, dB | gain, dB |\n|---|---|---|---|---|---|")
    for video in map(Path, videos):
        frames = read_clip(video, size=SIZE).frames
        for stride in STRIDES:
            figures = warp_gain(network, frames, stride=stride, max_pairs=MAX_PAIRS)
            cells = (f"{figures[key]:.2f}" for key in ("still_db", "warped_db", "gain_db"))
            print(f"| {video.name} | {stride} | {figures['pairs']:.0f} | {' | '.join(cells)} |")
    for height, width in (SIZE, (224, 512)):
        taken = milliseconds(network, size=(height, width))
        print(f"{width}x{height}: {taken:.0f} ms per pair, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("give videos that the network was not trained on: python benchmarks/flow_warp.py bikes.mp4")
    main(sys.argv[1:])
