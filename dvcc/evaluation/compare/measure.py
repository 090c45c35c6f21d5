"""Encodes of one stretch, judged part by part; a part is what is held as pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import torch

from dvcc.clip import frames_to_rgb
from dvcc.codecs.bitstream import CodedStream
from dvcc.evaluation.compare.encoding import Measured
from dvcc.evaluation.compare.pictures import jpeg, scaled_to_page
from dvcc.evaluation.compare.stretch import Stretch
from dvcc.evaluation.compare.viewed import ObjectRegions
from dvcc.media.container import open_container
from dvcc.tasks import ReconstructionTask, Task
from dvcc.tasks.judging import PART, merged, pooled, predict_frames, refuse_silence
from dvcc.tasks.metric import State

_PIXELS_AT_ONCE = 4_000_000  # of a part: a network's logits are eighty bytes and more for every pixel


@dataclass
class PicturedFrame:
    """A frame of the comparison to look at.

    pictures: JPEG files by name ("uncoded" and the controllers'); seen: what the task network sees in each. qp: the realised QPs
    (h, w) of the coded ones, with their bits and frame types.
    """

    index: int
    pictures: dict[str, bytes] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)
    qp: dict[str, np.ndarray] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


@torch.inference_mode()
def check_reference(stretch: Stretch, task: Task) -> None:
    """Raise `ConfigError` for a network that finds nothing at all in the uncoded stretch.

    What it looks at ends with the first frames in which it finds something.
    """
    if task.silence() is None:
        return
    metric = task.metric()
    for start, stop in _windows(stretch, block=stretch.num_frames, overlap=task.overlap):
        reference = predict_frames(task, stretch.part(start, stop).frames)
        metric.update(reference, task.labels(reference))
        if math.isfinite(pooled(task.metric(), [metric.state])):
            return
    refuse_silence(task, float("nan"))


@torch.inference_mode()
def judge_all(
    stretch: Stretch,
    measured: Sequence[Measured],
    task: Task,
    *,
    block: int,
    shown_target: float,
    num_shown: int,
    advance: Callable[[int], object],
    regions: ObjectRegions | None = None,
) -> list[PicturedFrame]:
    """Fill in what `measured` are worth against the uncoded stretch, in blocks of `block` frames.

    Returns `num_shown` frames, spread evenly, as uncoded and as coded at `shown_target`. `advance` is told the frames done.
    regions: inside and outside of which PSNR is measured, too.

    The uncoded and the coded videos are read side by side. Predictions are held of one video of a part at a time.
    """
    predictions = stretch.num_frames - task.overlap
    places = sorted({int((i + 0.5) * predictions / num_shown) for i in range(num_shown)})
    pictured = {index: PicturedFrame(index) for index in places}
    windows = _windows(stretch, block=block, overlap=task.overlap)
    streams = [_coded_parts(m.path, windows) for m in measured]
    parts: list[tuple[list[State], list[State]]] = [([], []) for _ in measured]
    inside: list[list[State]] = [[] for _ in measured]
    for start, stop in windows:
        uncoded = stretch.part(start, stop).frames
        count = stop - start - task.overlap
        here = [index for index in places if start <= index < start + count]
        labels = _labels(task, uncoded, {index - start: pictured[index] for index in here})
        # Frames of the overlap are the next part's.
        without_overlap = slice(0, stop - start if stop == stretch.num_frames else count)
        seen = None if regions is None else regions.of(range(start, stop)[without_overlap])
        # In one thread: what another one decodes ahead lies in a heap of its own, which took 250 MB more at 1080p.
        for m, frames, (states, psnr_states), inside_states in zip(measured, map(next, streams), parts, inside, strict=True):
            looked_at = {index - start: pictured[index] for index in here if m.target_kbps == shown_target}
            states.append(_judge(task, frames, labels, looked_at, m.controller))
            psnr_states.append(_squared_error(frames[without_overlap], uncoded[without_overlap]))
            if seen is not None:
                inside_states.append(_squared_error(frames[without_overlap], uncoded[without_overlap], where=seen))
        advance(count)
    blocks = [start // block for start, _ in windows]
    for m, (states, psnr_states) in zip(measured, parts, strict=True):
        m.states = [_joined(task, states, blocks, number) for number in sorted(set(blocks))]
        m.psnr_states = [_joined(ReconstructionTask(), psnr_states, blocks, number) for number in sorted(set(blocks))]
        m.metric, m.psnr = pooled(task.metric(), m.states), pooled(ReconstructionTask().metric(), m.psnr_states)
        if m.target_kbps == shown_target:
            _read_back(m, pictured)
    if regions is not None:
        for m, (_, psnr_states), inside_states in zip(measured, parts, inside, strict=True):
            _tell_apart(m, psnr_states, inside_states)
    return list(pictured.values())


def _squared_error(frames: torch.Tensor, uncoded: torch.Tensor, *, where: torch.Tensor | None = None) -> State:
    """Return the state of PSNR for frames uint8 (T, 3, H, W), or for the pixels bool (T, H, W) of them."""
    psnr = ReconstructionTask().metric()
    if where is None:
        psnr.update(frames, uncoded)
    else:
        psnr.update(*(pictures.permute(0, 2, 3, 1)[where] for pictures in (frames, uncoded)))
    return psnr.state


def _tell_apart(measured: Measured, whole: Sequence[State], inside: Sequence[State]) -> None:
    """PSNR inside and outside, of the states of the whole frames and of what is inside."""
    outside: list[State] = [
        {name: all_of_it[name] - some[name] for name in some}  # type: ignore[operator]  # sums, no lists
        for all_of_it, some in zip(whole, inside, strict=True)
    ]
    psnr = ReconstructionTask().metric
    measured.psnr_inside, measured.psnr_outside = pooled(psnr(), inside), pooled(psnr(), outside)


def _labels(task: Task, uncoded: torch.Tensor, pictured: Mapping[int, PicturedFrame]) -> torch.Tensor:
    """Return what is true of uncoded frames; their pictures go to `pictured`, by number among the frames."""
    reference = predict_frames(task, uncoded)
    for number, frame in pictured.items():
        _show(frame, "uncoded", task, uncoded[number], reference[number])
    return task.labels(reference)


def _judge(task: Task, frames: torch.Tensor, labels: torch.Tensor, pictured: Mapping[int, PicturedFrame], name: str) -> State:
    """Return the state of the task's metric for coded frames."""
    prediction, metric = predict_frames(task, frames), task.metric()
    metric.update(prediction, labels)
    for number, frame in pictured.items():
        _show(frame, name, task, frames[number], prediction[number])
    return metric.state


def _show(frame: PicturedFrame, name: str, task: Task, picture: torch.Tensor, prediction: torch.Tensor) -> None:
    """Draw a picture and its prediction for the page.

    A prediction for every pixel is drawn on all of them; others on the picture as the page has it, where words can be read.
    """
    shown = scaled_to_page(picture)
    dense = prediction.shape[-2:] == picture.shape[-2:]
    frame.pictures[name], frame.seen[name] = jpeg(shown), jpeg(task.picture(picture if dense else shown, prediction))


def _read_back(measured: Measured, pictured: Mapping[int, PicturedFrame]) -> None:
    for index, frame in enumerate(CodedStream(measured.path)):
        if index in pictured:
            pictured[index].qp[measured.controller] = frame.qp
            pictured[index].types[measured.controller] = frame.type
            pictured[index].bits[measured.controller] = int(measured.bits_per_frame[index])


def _joined(task: Task, states: Sequence[State], blocks: Sequence[int], number: int) -> State:
    """Return the state of all parts of a block."""
    return merged(task.metric(), [state for state, block in zip(states, blocks, strict=True) if block == number]).state


def _windows(stretch: Stretch, *, block: int, overlap: int) -> list[tuple[int, int]]:
    """First frame, and the frame after the last, of parts of a few predictions that never go across a block's end."""
    count = max(1, min(PART, _PIXELS_AT_ONCE // (stretch.height * stretch.width)))
    predictions = stretch.num_frames - overlap
    windows = []
    for first in range(0, predictions, block):
        end = min(first + block, predictions)
        windows += [(start, min(start + count, end) + overlap) for start in range(first, end, count)]
    return windows


def _coded_parts(path: Path, windows: Sequence[tuple[int, int]]) -> Iterator[torch.Tensor]:
    """Yield the decoded RGB of every window, uint8 (T, 3, H, W)."""
    with open_container(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = container.decode(container.streams.video[0])
        held: list[av.VideoFrame] = []
        first = 0
        for start, stop in windows:
            held = held[start - first :]
            first = start
            held += [next(frames) for _ in range(stop - start - len(held))]
            yield torch.from_numpy(frames_to_rgb(held))
