"""Two rate controllers on one clip at a few rates: real encodes, judged part by part; no more than a part is held as pixels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import av
import numpy as np
import torch

from dvcc.clip import Clip, frames_to_clip
from dvcc.codecs import EncodedClip
from dvcc.codecs.bitstream import CodedStream
from dvcc.media.container import open_container
from dvcc.pixels import as_float
from dvcc.rate_control import RateController
from dvcc.tasks import ReconstructionTask, Task
from dvcc.tasks.judging import PART, State, merged, pooled, predict_frames, state_of

_PIXELS_AT_ONCE = 4_000_000  # of a part: a network's logits are eighty bytes and more for every pixel


@dataclass
class Measured:
    """An encode and what it is worth.

    controller: its name. seconds: of wall clock for all its encodes. states, psnr_states: of the task's metric and of PSNR, one
    of every block (GOP) of the clip. metric, psnr (dB): of the whole.
    """

    controller: str
    target_kbps: float
    coded: EncodedClip
    seconds: float
    states: list[State] = field(default_factory=list)
    psnr_states: list[State] = field(default_factory=list)
    metric: float = float("nan")
    psnr: float = float("nan")


@dataclass
class Shown:
    """A frame of the comparison to look at: uint8 (3, H, W) pictures by name ("uncoded" and the controllers'), what the task
    network sees in each, and the realised QPs (h, w) of the coded ones, with their bits and frame types."""

    index: int
    pictures: dict[str, torch.Tensor] = field(default_factory=dict)
    seen: dict[str, torch.Tensor] = field(default_factory=dict)
    qp: dict[str, np.ndarray] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


def encode_all(
    clip: Clip, targets_kbps: Sequence[float], controllers: Mapping[str, RateController], advance: Callable[[], object]
) -> list[Measured]:
    """Every controller at every target; `advance` is called after each."""
    found = []
    for target in targets_kbps:
        for name, controller in controllers.items():
            began = time.perf_counter()
            coded = controller.encode(clip, target)
            found.append(Measured(name, target, coded, time.perf_counter() - began))
            advance()
    return found


@torch.inference_mode()
def judge_all(
    clip: Clip,
    measured: Sequence[Measured],
    task: Task,
    *,
    block: int,
    shown_target: float,
    num_shown: int,
    advance: Callable[[int], object],
) -> list[Shown]:
    """Fill in what `measured` are worth against the uncoded clip, in blocks of `block` frames; returns `num_shown` frames, spread
    evenly, as uncoded and as coded at `shown_target`. `advance` is told the frames done."""
    predictions = clip.num_frames - task.overlap
    places = sorted({int((i + 0.5) * predictions / num_shown) for i in range(num_shown)})
    shown = {index: Shown(index) for index in places}
    windows = _windows(clip, block=block, overlap=task.overlap)
    streams = [_coded_parts(m.coded, windows) for m in measured]
    parts: list[tuple[list[State], list[State]]] = [([], []) for _ in measured]
    for start, stop in windows:
        uncoded = clip.slice(start, stop).frames
        reference = predict_frames(task, uncoded)
        labels = task.labels(reference)
        here = [index for index in places if start <= index < start + len(reference)]
        for index in here:
            _show(shown[index], "uncoded", task, uncoded[index - start], reference[index - start])
        for m, stream, (states, psnr_states) in zip(measured, streams, parts, strict=True):
            frames = next(stream)
            prediction = predict_frames(task, frames)
            metric, psnr = task.metric(), ReconstructionTask().metric()
            metric.update(prediction, labels)
            own = slice(
                0, len(frames) if stop == clip.num_frames else len(reference)
            )  # frames of the overlap are the next part's
            psnr.update(as_float(frames[own]), as_float(uncoded[own]))
            states.append(state_of(metric))
            psnr_states.append(state_of(psnr))
            for index in here if m.target_kbps == shown_target else ():
                _show(shown[index], m.controller, task, frames[index - start], prediction[index - start])
        advance(len(reference))
    blocks = [start // block for start, _ in windows]
    for m, (states, psnr_states) in zip(measured, parts, strict=True):
        m.states = [_joined(task, states, blocks, number) for number in sorted(set(blocks))]
        m.psnr_states = [_joined(ReconstructionTask(), psnr_states, blocks, number) for number in sorted(set(blocks))]
        m.metric, m.psnr = pooled(task.metric(), m.states), pooled(ReconstructionTask().metric(), m.psnr_states)
        if m.target_kbps == shown_target:
            _read_back(m, shown)
    return list(shown.values())


def _show(frame: Shown, name: str, task: Task, picture: torch.Tensor, prediction: torch.Tensor) -> None:
    frame.pictures[name], frame.seen[name] = picture.clone(), task.picture(picture, prediction)


def _read_back(measured: Measured, shown: Mapping[int, Shown]) -> None:
    for index, frame in enumerate(CodedStream(measured.coded.bitstream)):
        if index in shown:
            shown[index].qp[measured.controller] = frame.qp
            shown[index].types[measured.controller] = frame.type
            shown[index].bits[measured.controller] = int(measured.coded.bits_per_frame[index])


def _joined(task: Task, states: Sequence[State], blocks: Sequence[int], number: int) -> State:
    """The state of all parts of a block."""
    return state_of(merged(task.metric(), [state for state, own in zip(states, blocks, strict=True) if own == number]))


def _windows(clip: Clip, *, block: int, overlap: int) -> list[tuple[int, int]]:
    """First frame, and the frame after the last, of parts of a few predictions that never go across a block's end."""
    count = max(1, min(PART, _PIXELS_AT_ONCE // (clip.height * clip.width)))
    predictions = clip.num_frames - overlap
    windows = []
    for first in range(0, predictions, block):
        end = min(first + block, predictions)
        windows += [(start, min(start + count, end) + overlap) for start in range(first, end, count)]
    return windows


def _coded_parts(coded: EncodedClip, windows: Sequence[tuple[int, int]]) -> Iterator[torch.Tensor]:
    """Decoded RGB of every window, uint8 (T, 3, H, W)."""
    with open_container(coded.bitstream) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = container.decode(container.streams.video[0])
        held: list[av.VideoFrame] = []
        first = 0
        for start, stop in windows:
            held = held[start - first :]
            first = start
            held += [next(frames) for _ in range(stop - start - len(held))]
            yield frames_to_clip(held, coded.fps).frames
