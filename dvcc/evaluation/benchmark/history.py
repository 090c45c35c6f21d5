"""A warning where what is to be coded was coded before: what a first coding has taken, no network loses again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dvcc.codecs.history import jpeg_quality, mean_qp
from dvcc.datasets import DataSet
from dvcc.datasets.base import is_picture
from dvcc.media.folders import VIDEO_SUFFIXES

_FILES = 50  # of a data set that are looked into, evenly over it


def coded_before(data: DataSet) -> list[str]:
    """Return a sentence for pictures that are JPEGs and one for videos that are H.264, with the quality or QP that they show."""
    files = list(dict.fromkeys(path for example in data for path in example.files))
    looked = files[:: max(1, -(-len(files) // _FILES))]
    qualities = [value for path in looked if is_picture(path) and (value := jpeg_quality(path)) is not None]
    qps = [qp for path in looked if path.suffix.lower() in VIDEO_SUFFIXES and (qp := mean_qp(path)) is not None]
    sentences = []
    if qualities:
        sentences.append(f"{len(qualities)} of {len(looked)} files are JPEGs already, of about quality {_range(qualities)}")
    if qps:
        sentences.append(f"{len(qps)} of {len(looked)} files are H.264 already, of mean QP {_range(qps)}")
    return [f"{sentence}: what that has taken counts as uncoded here" for sentence in sentences]


def _range(values: Sequence[float]) -> str:
    """Lowest, highest and median, rounded."""
    low, middle, high = np.percentile(values, [0, 50, 100]).round()
    return f"{low:g}" if low == high else f"{low:g} to {high:g} (median {middle:g})"
