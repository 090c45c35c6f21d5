"""A trained control as an ONNX graph, run by onnxruntime: what `dvcc encode` and `dvcc export` have instead of PyTorch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from dvcc.control.deployed.reader import load_reader
from dvcc.control.eyes import load_eyes
from dvcc.control.eyes.base import open_session
from dvcc.control.eyes.painting import Rule
from dvcc.errors import CheckpointError
from dvcc.networks.stored import taken_from
from dvcc.qp import MAX_QP

_NUM_PRIOR = 5  # coefficients: see `Control.mean_qp`
NO_DIGEST = "0" * 64
"""What stands for the file's SHA-256 while that is computed."""


class Control:
    """The part of a control that has no memory: weights and head in one graph, and the prior.

    config: how its network was built, and what it was trained on. extra_planes: numbers per macroblock that it takes besides the
    picture. eyes: what sees them, None if there are none. rates: least and most bits per pixel that it was trained at, None if
    that is not known. averaged: whether offsets are the mean over the GOP so far. rule: the plain rule whose offsets its own are
    added to, None where they stand alone. analysis: whether the last of its planes are those of an analysis encode. reader: the
    network that reads one, None where there is none or its task has to.

    folder: where the files of its eyes and its reader are looked for first. Raises `CheckpointError` for what is no control, or
    damaged, or without these.
    """

    def __init__(self, model: bytes, *, name: str, folder: Path | None = None) -> None:
        self._session = open_session(model, name=name)
        stored = self._session.get_modelmeta().custom_metadata_map
        if stored.get("kind") != "control":
            raise CheckpointError(f"{name} is an ONNX file, but no control: give the control.onnx that dvcc train control wrote")
        digest = stored.get("sha256", "")
        if hashlib.sha256(model.replace(digest.encode(), NO_DIGEST.encode())).hexdigest() != digest:
            raise CheckpointError(f"{name} does not match its checksum, so it is damaged: copy or train it again")
        with taken_from(name):
            self._take(stored, name, [] if folder is None else [folder])
        self._name = name

    def _take(self, stored: dict[str, str], name: str, beside: list[Path]) -> None:
        self.config: dict[str, Any] = json.loads(stored["config"])
        network = self.config["control"]
        self.extra_planes, self.rates = int(network["extra_planes"]), network.get("rates")
        if self.rates is not None:
            least, most = self.rates
            self.rates = [float(least), float(most)]
        self.averaged, self.analysis = bool(network.get("averaged", True)), "analysis" in network
        self.rule = Rule(**network["rule"]) if "rule" in network else None
        self.eyes = load_eyes(network["eyes"], beside=beside, control=name) if "eyes" in network else None
        self.reader = load_reader(network["analysis"], beside=beside, control=name) if self.analysis else None
        self._prior = np.array(json.loads(stored["prior"]), np.float64)
        if self._prior.shape != (_NUM_PRIOR,) or not np.isfinite(self._prior).all():
            raise ValueError(f"its prior is {stored['prior'][:60]}")

    def mean_qp(self, small: np.ndarray, log_bpp: float) -> float:
        """Return the QP of the flat map that meets a target, 0..51, for reduced frames (T, 3, 4h, 4w) in a row."""
        luma = small[:, 0] + small[:, 1]
        luma += small[:, 2]
        luma *= np.float32(1 / 3)
        in_time, down, across = (_mean_step(luma, axis) for axis in range(3))
        activities = np.log(np.array([down + across, in_time]) + 1e-3)
        return float(np.clip(self._prior @ [1.0, log_bpp, log_bpp**2, *activities], 0, MAX_QP))

    def delta_qp(
        self,
        small: np.ndarray,
        previous: np.ndarray,
        *,
        log_bpp: float,
        mean_qp: float,
        position: np.ndarray,
        gop: int,
        planes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return what is decided of N frames, each by itself, in QPs: float32 (N, h, w).

        small, previous: reduced frames float32 (N, 3, 4h, 4w), and the one before each. position: int (N,), in a GOP of `gop`
        frames. planes: float32 (N, extra_planes, h, w), where the control takes any.
        """
        rows = np.ones((len(small), 1), np.float32)
        given = {"small": small, "previous": previous, "log_bpp": log_bpp * rows, "mean_qp": mean_qp * rows, "gop": gop * rows}
        given["position"] = position.astype(np.float32)[:, None]
        if planes is not None:
            given["planes"] = planes
        try:
            offsets: np.ndarray = self._session.run(None, given)[0]
        except Exception as error:  # onnxruntime raises half a dozen unrelated types
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{self._name} cannot be run ({reason}): copy or train it again") from error
        wanted = (len(small), 1, small.shape[2] // 4, small.shape[3] // 4)
        if offsets.shape != wanted or not np.isfinite(offsets).all():
            raise CheckpointError(f"{self._name} answers {offsets.shape} and {wanted} is asked for: copy or train it again")
        return offsets[:, 0]


def _mean_step(values: np.ndarray, axis: int) -> float:
    """Return the mean absolute difference of neighbours along an axis, 0 where there are none."""
    if values.shape[axis] < 2:
        return 0.0
    steps = np.diff(values, axis=axis)
    return float(np.abs(steps, out=steps).mean())


def load_control(path: str | Path) -> Control:
    """Read a control that `dvcc train control` wrote. Raises `CheckpointError` when it is missing, damaged, or something else."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}: train one with dvcc train control, or set its path")
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path} holds weights to train with: give the .onnx that dvcc train control writes beside it "
            f"(python -m dvcc.control.deployed.onnx_export {path} makes one)"
        )
    return Control(path.read_bytes(), name=str(path), folder=path.parent)
