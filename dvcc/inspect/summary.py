"""Figures of a coded stream of any length: a few bytes are kept per frame, no picture and no map."""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from typing import Any

import numpy as np

from dvcc import units
from dvcc.codecs.bitstream import CodedFrame, CodedStream
from dvcc.qp import MAX_QP


class StreamSummary:
    """What `dvcc inspect` says of a stream. `add` every frame in display order, then ask for `figures`."""

    def __init__(self, stream: CodedStream) -> None:
        self._stream = stream
        self._types: list[str] = []
        self._bits = array("q")
        self._qp_mean = array("d")
        self._qp_range = array("b")  # lowest and highest of every frame
        self._keys = array("q")
        self._all_idr = True
        self._histograms: dict[str, np.ndarray] = {}
        self._qp_sum: np.ndarray | None = None
        self._bits_of_second: dict[int, int] = defaultdict(int)
        self._start: float | None = None
        self._end = 0.0
        self.interlaced = self.damaged = 0
        self.pixel_format = ""

    def __len__(self) -> int:
        return len(self._bits)

    def add(self, frame: CodedFrame) -> None:
        """Count `frame`."""
        if self._qp_sum is None:
            self._qp_sum = np.zeros(frame.qp.shape)
            self._start, self.pixel_format = frame.seconds, frame.picture.format.name
        if frame.key:
            self._keys.append(len(self))
            self._all_idr &= frame.idr
        counts = np.bincount(frame.qp.ravel(), minlength=MAX_QP + 1)
        self._histograms[frame.type] = self._histograms.get(frame.type, np.zeros(MAX_QP + 1, np.int64)) + counts
        self._qp_sum += frame.placed_qp
        self._bits_of_second[int(self._seconds(frame) // 1)] += frame.bits
        self._types.append(frame.type)
        self._qp_mean.append(float(frame.qp.mean()))
        self._qp_range.extend((int(frame.qp.min()), int(frame.qp.max())))
        self._bits.append(frame.bits)
        self.interlaced += bool(frame.picture.interlaced_frame)
        self.damaged += frame.damaged

    def _seconds(self, frame: CodedFrame) -> float:
        """Since the first frame; by the frame rate where a stream keeps no times."""
        if frame.seconds is None or self._start is None:
            return len(self) / float(self._stream.fps)
        return frame.seconds - self._start

    @property
    def mean_qp(self) -> np.ndarray:
        """(h, w): mean QP of every macroblock over the frames."""
        assert self._qp_sum is not None  # a stream without frames raises before
        return self._qp_sum / len(self)

    def figures(self) -> dict[str, Any]:
        """Everything, ready for JSON. Bits are in display order; a frame that was lost counts in none of them."""
        stream, lengths = self._stream, np.diff([*self._keys, len(self)])
        qp_range = np.array(self._qp_range).reshape(-1, 2)
        return {
            "container": stream.container,
            "profile": stream.profile,
            "pixel_format": self.pixel_format,
            "size": [stream.height, stream.width],
            "frames": len(self),
            "fps": float(stream.fps),
            "fps_assumed": stream.fps_assumed,
            "lost_frames": stream.lost,
            "damaged_frames": self.damaged,
            "interlaced_frames": self.interlaced,
            "kbps": units.kbps(sum(self._bits), num_frames=len(self), fps=stream.fps),
            "frame_types": {kind: self._of_type(kind) for kind in sorted(self._histograms, key="IPB".find)},
            "gops": {
                "lengths": lengths.tolist(),
                "closed": self._all_idr,
                "regular_length": self._regular_length(lengths),
                "early_i_frames": self._early(self._regular_length(lengths)),
            },
            "types": "".join(kind if len(kind) == 1 else "?" for kind in self._types),
            "bits_per_frame": list(self._bits),
            "kbits_per_second": [[second, bits / 1000] for second, bits in sorted(self._bits_of_second.items())],
            "qp_mean_per_frame": [round(value, 3) for value in self._qp_mean],
            "qp_min_per_frame": qp_range[:, 0].tolist(),
            "qp_max_per_frame": qp_range[:, 1].tolist(),
            "mean_qp_map": self.mean_qp.round(2).tolist(),
            "settings": stream.settings,
        }

    def _of_type(self, kind: str) -> dict[str, float]:
        of_type = np.array(self._types) == kind
        counts = self._histograms[kind]
        below = counts.cumsum() / counts.sum()
        present = counts.nonzero()[0]
        return {
            "frames": int(of_type.sum()),
            "qp_mean": float(counts @ np.arange(len(counts)) / counts.sum()),
            "qp_min": int(present[0]),
            "qp_max": int(present[-1]),
            "qp_p10": int(np.searchsorted(below, 0.1)),
            "qp_p90": int(np.searchsorted(below, 0.9)),
            "bits_mean": float(np.array(self._bits)[of_type].mean()),
        }

    def _regular_length(self, lengths: np.ndarray) -> int:
        """Return the frames from one key frame to the next where nothing happens.

        That is the one distance if there is one, else what x264's text says, else the longest.
        """
        if len(lengths) > 2 and len(set(lengths[:-1].tolist())) == 1:
            return int(lengths[0])
        match = re.search(r"\bkeyint=(\d+)", self._stream.settings or "")
        return int(match[1]) if match else int(lengths.max(initial=0))

    def _early(self, regular: int) -> list[int]:
        """I frames that come before a regular interval has passed since the last key frame: most encoders put them at cuts."""
        early, last, keys = [], 0, set(self._keys)
        for place, kind in enumerate(self._types):
            if place and (kind == "I" or place in keys) and place - last < regular:
                early.append(place)
            if place in keys:
                last = place
        return early
