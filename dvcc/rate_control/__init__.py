"""Rate controllers behind one contract.

A controller is one file and one line here; those that ask a task network are imported when they are built, since a camera has
none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from dvcc.codecs import X264, VideoCodec
from dvcc.codecs.cache import EncodeCache
from dvcc.control.analysis import Reader
from dvcc.control.deployed.runtime import Control
from dvcc.errors import ConfigError
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.analysed import AnalysedControl, CodedTwice
from dvcc.rate_control.base import RateController, best_within
from dvcc.rate_control.constant import ConstantQP, ConstantRateFactor
from dvcc.rate_control.learned import LearnedMap
from dvcc.rate_control.objects import Objects, at_every_frame, load_objects, looking_every

if TYPE_CHECKING:
    from dvcc.surrogate import Surrogate
    from dvcc.tasks import Task

T = TypeVar("T")
_PEAK = 1.5  # of capped CRF, in multiples of its average bitrate


@dataclass(frozen=True)
class Means:
    """What a controller may be made of. The codec is all that most need; a camera has no task network and no surrogate."""

    codec: VideoCodec = field(default_factory=X264)
    control: Control | None = None
    task: Task | None = None
    surrogate: Surrogate[Any] | None = None
    cache: EncodeCache | None = None


def _without(codec: VideoCodec, **params: str) -> AverageBitrate:
    return AverageBitrate(replace(codec, params={**codec.params, **params}))


def _control(means: Means) -> Control:
    return _needed(means.control, Control, "a learned controller needs a trained control: set checkpoint=PATH")


def _learned(means: Means, *, corrected: bool = False, checked: bool = True, own: bool = False) -> RateController:
    control = _control(means)
    objects = _own_objects(means) if own else None
    if not control.analysis:
        if objects is not None:
            raise ConfigError(
                "learned_objects_own adds to a control that sees an analysis encode, and this one sees none: take objects_own, "
                "or set checkpoint=checkpoints/control_segmentation.onnx"
            )
        return AverageBitrate(means.codec, control=control, corrected=corrected)
    return AnalysedControl(control, means.codec, _reader(means), objects, corrected=corrected, checked=checked)


def _reader(means: Means) -> Reader:
    """Return what reads encodes: the network that lies beside a control, or the task."""
    if means.control is not None and means.control.reader is not None:
        return means.control.reader
    from dvcc.rate_control.task_reader import TaskReader

    return TaskReader(_task(means))


def _task(means: Means) -> Task:
    if means.task is None:
        raise ConfigError("saliency, descent, search and a control that sees an analysis encode need a task: set task=NAME")
    return means.task


def _obeying(means: Means) -> X264:
    return _needed(means.codec, X264, "saliency, descent and search know every QP, and only x264 tells it: set codec=x264")


def _saliency(means: Means, *, binary: bool) -> RateController:
    from dvcc.rate_control.saliency import BinarySaliency, GradedSaliency

    return (BinarySaliency if binary else GradedSaliency)(_task(means), _obeying(means))


def _ladder(means: Means, *, search: bool) -> RateController:
    from dvcc.rate_control.descent import LadderDescent
    from dvcc.rate_control.search import Search
    from dvcc.surrogate import AnchoredSurrogate

    surrogate = _needed(means.surrogate, AnchoredSurrogate, "descent and search need an anchored surrogate: set surrogate=PATH")
    cache = _needed(means.cache, EncodeCache, "descent and search need a cache of encodes: set data.cache=FOLDER")
    return (Search if search else LadderDescent)(_task(means), surrogate, cache, _obeying(means))


def _own_objects(means: Means, *, every_frame: bool = True) -> Objects:
    from dvcc.rate_control.oracle import objects_of
    from dvcc.tasks import DetectionTask

    objects = objects_of(_needed(means.task, DetectionTask, "objects_own is for task=detection, whose network looks"))
    return looking_every(objects, 1) if every_frame else objects


def _boxes(means: Means) -> RateController:
    from dvcc.rate_control.oracle import BoxOracle
    from dvcc.tasks import DetectionTask

    return BoxOracle(_needed(means.task, DetectionTask, "boxes are for task=detection"), means.codec)


def _needed(value: object, kind: type[T], message: str) -> T:
    if not isinstance(value, kind):
        raise ConfigError(message)
    return value


def _own(place: str, means: Means) -> RateController:
    from dvcc.networks.factory import call_place

    controller = call_place(place, means=means)
    if not isinstance(controller, RateController):
        raise ConfigError(f"{place} gave a {type(controller).__name__}: return a RateController")
    return controller


RATE_CONTROLLERS: dict[str, Callable[[Means], RateController]] = {
    "abr1": lambda means: AverageBitrate(means.codec, passes=1),
    "abr1_vbv": lambda means: AverageBitrate(means.codec, passes=1, vbv=True),
    "abr2": lambda means: AverageBitrate(means.codec),
    "abr2_corrected": lambda means: AverageBitrate(means.codec, corrected=True),
    "abr2_twice": lambda means: CodedTwice(_reader(means), means.codec),
    "abr2_no_psy": lambda means: _without(means.codec, psy="0"),
    "abr2_no_aq": lambda means: _without(means.codec, **{"aq-mode": "0"}),
    "crf": lambda means: ConstantRateFactor(means.codec),
    "crf_capped": lambda means: ConstantRateFactor(means.codec, peak=_PEAK),
    "cqp": lambda means: ConstantQP(means.codec),
    "saliency": lambda means: _saliency(means, binary=False),
    "saliency_binary": lambda means: _saliency(means, binary=True),
    "boxes": _boxes,
    "objects": lambda means: AverageBitrate(means.codec, control=load_objects()),
    "objects_corrected": lambda means: AverageBitrate(means.codec, corrected=True, control=load_objects()),
    "objects_crf": lambda means: ConstantRateFactor(means.codec, control=load_objects()),
    "objects_crf_capped": lambda means: ConstantRateFactor(means.codec, control=load_objects(), peak=_PEAK),
    "objects_every_frame": lambda means: AverageBitrate(means.codec, control=at_every_frame(load_objects())),
    "objects_own": lambda means: AverageBitrate(means.codec, control=_own_objects(means, every_frame=False)),
    "objects_own_every_frame": lambda means: AverageBitrate(means.codec, control=_own_objects(means)),
    "objects_vbv": lambda means: AverageBitrate(means.codec, passes=1, vbv=True, control=load_objects()),
    "descent": lambda means: _ladder(means, search=False),
    "search": lambda means: _ladder(means, search=True),
    "learned": _learned,
    "learned_corrected": lambda means: _learned(means, corrected=True),
    "learned_objects_own": lambda means: _learned(means, own=True),
    "learned_unchecked": lambda means: _learned(means, checked=False),
    "learned_map": lambda means: LearnedMap(_control(means), means.codec),
    "learned_map_corrected": lambda means: LearnedMap(_control(means), means.codec, corrected=True),
    "learned_vbv": lambda means: AverageBitrate(means.codec, control=_control(means), vbv=True),
}


def build_rate_controller(name: str, means: Means) -> RateController:
    """Return the controller `name`, or one of your own, "package.module:name".

    Your own is a function or class that is called with means=`means`.

    Raises `ConfigError` for an unknown name, one whose means are missing, or a function that makes no `RateController`.
    """
    if ":" in name:
        return _own(name, means)
    if name not in RATE_CONTROLLERS:
        raise ConfigError(f"there is no rate controller {name!r}: choose among {', '.join(RATE_CONTROLLERS)}")
    return RATE_CONTROLLERS[name](means)


__all__ = ["RATE_CONTROLLERS", "Means", "RateController", "best_within", "build_rate_controller"]
