"""Frames that are images in a folder: which belong together, in which order, at which rate."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from dvcc.errors import VideoError

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".mpg", ".mpeg", ".m4v", ".ts", ".y4m")
    + (".m2ts", ".mts", ".3gp", ".flv", ".wmv", ".mxf", ".h264", ".264", ".h265", ".265", ".hevc")
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm"})
_CITYSCAPES = re.compile(r"(?P<sequence>[a-z\-]+_\d{6})_(?P<frame>\d{6})_leftImg8bit$")
_FOLDER_FPS, _CITYSCAPES_FPS = Fraction(25), Fraction(17)


def is_cityscapes(path: Path) -> bool:
    """Whether a file is named as an image of a Cityscapes sequence."""
    return bool(_CITYSCAPES.match(path.stem))


def image_sequence(path: Path) -> tuple[list[Path], Fraction]:
    """Return the images of one sequence in order, and its rate."""
    folder = path if path.is_dir() else path.parent
    images = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural)
    if not images:
        raise VideoError(f"{folder} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}): give a video or a folder of frames")
    if not _CITYSCAPES.match(images[0].stem):
        return images, _FOLDER_FPS
    runs = cityscapes_sequences(images)
    if path.is_dir() and len(runs) > 1:
        raise VideoError(f"{folder} holds {len(runs)} Cityscapes sequences: name the first image of one, e.g. {runs[1][0].name}")
    run = next(run for run in runs if path.is_dir() or path in run)
    return run[0 if path.is_dir() else run.index(path) :], _CITYSCAPES_FPS


def cityscapes_sequences(images: list[Path]) -> list[list[Path]]:
    """Split images named city_sequence_frame_leftImg8bit into runs of consecutive frames of one sequence."""
    runs: list[list[Path]] = []
    previous: tuple[str, int] | None = None
    for image in images:
        if match := _CITYSCAPES.match(image.stem):
            key = (match["sequence"], int(match["frame"]))
            if previous is None or key != (previous[0], previous[1] + 1):
                runs.append([])
            runs[-1].append(image)
            previous = key
    return runs


def _natural(path: Path) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
