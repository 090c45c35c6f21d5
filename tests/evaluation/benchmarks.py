"""A benchmark of small pictures, and what it wrote."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from dvcc.config.parse import parse


def configure(*words):
    return parse("evaluate", ["benchmark", "task=reconstruction", "bootstrap=30", *words])[1]


def write_pictures(folder, count=4):
    folder.mkdir(exist_ok=True)
    y, x = np.mgrid[0:64, 0:96]
    for i in range(count):
        waves = [120 + 60 * np.sin(x / (3 + i) + k) + 40 * np.cos(y / (2 + k)) for k in range(3)]
        Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def report_of(tmp_path):
    return json.loads((tmp_path / "out" / "report.json").read_text())
