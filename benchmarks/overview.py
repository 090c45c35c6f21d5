"""Draw docs/overview.png: what NanoDet-Plus finds in a frame of a street: uncoded, under two-pass ABR, under the rule of objects.

    python benchmarks/overview.py [OUT]

Both encodes are asked for 60 kbit/s; prints the bitrates and the objects of each panel. The same network looks for the rule and
judges here; `docs/results.md` says what the rule gains before other judges.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import dvcc
from dvcc import visuals
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.objects import load_objects
from dvcc.tasks import DetectionTask

ROOT = Path(__file__).parents[1]
KBPS, FRAME = 60.0, 44
ROWS, COLUMNS = (92, 236), (200, 640)
"""The part of the frame that is drawn: all objects are in it."""
BOX = "#ffb000"  # differs from greens and greys for the colour-blind, too


def main(out: str = str(ROOT / "docs" / "overview.png")) -> None:
    """Encode twice, look three times, draw."""
    clip = dvcc.read_clip(ROOT / "examples" / "street.mp4")
    codec = dvcc.X264(gop=round(clip.fps))
    pictures = {"uncoded": clip.frames[FRAME]}
    for name, control in (("two-pass ABR", None), ("rule of objects", load_objects())):
        coded = AverageBitrate(codec, control=control).encode(clip, KBPS)
        pictures[f"{name}, {coded.bitrate_kbps:.0f} kbit/s"] = coded.frames[FRAME]
    task = DetectionTask(model="nanodet_plus")
    figure, axes = plt.subplots(3, 1, figsize=(7.4, 8.0), layout="constrained")
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        draw(axis, picture, task, title)
    visuals.save_figure(figure, out)


def draw(axis: plt.Axes, frame: torch.Tensor, task: DetectionTask, title: str) -> None:
    """Draw a frame (3, H, W) with the boxes that the network finds in it."""
    (boxes,) = task.objects(frame[None])
    height, width = frame.shape[-2:]
    axis.imshow(visuals.rgb(frame))
    for left, top, right, bottom in (boxes.corners * torch.tensor([width, height] * 2)).tolist():
        for colour, line in (("black", 4.0), (BOX, 2.0)):
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=line))
    axis.set(xlim=COLUMNS, ylim=ROWS[::-1], xticks=[], yticks=[])
    axis.set_title(f"{title}: objects found {len(boxes.labels)}", fontsize=11, loc="left")
    print(f"{title}: objects found {len(boxes.labels)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
