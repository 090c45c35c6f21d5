"""Rate controllers behind one contract. A controller is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from dvcc.codecs import X264
from dvcc.control.network import ControlNetwork
from dvcc.errors import ConfigError
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.base import RateController, best_within
from dvcc.rate_control.constant import ConstantQP, ConstantRateFactor
from dvcc.rate_control.learned import LearnedControl

Builder = Callable[[X264, ControlNetwork | None], RateController]


def _learned(codec: X264, control: ControlNetwork | None, *, corrected: bool) -> RateController:
    if control is None:
        raise ConfigError("a learned controller needs a trained control: set checkpoint=PATH")
    return LearnedControl(control, codec, corrected=corrected)


RATE_CONTROLLERS: dict[str, Builder] = {
    "abr1": lambda codec, control: AverageBitrate(codec, passes=1),
    "abr2": lambda codec, control: AverageBitrate(codec),
    "abr2_corrected": lambda codec, control: AverageBitrate(codec, corrected=True),
    "crf": lambda codec, control: ConstantRateFactor(codec),
    "cqp": lambda codec, control: ConstantQP(codec),
    "learned": lambda codec, control: _learned(codec, control, corrected=False),
    "learned_corrected": lambda codec, control: _learned(codec, control, corrected=True),
}


def build_rate_controller(name: str, *, codec: X264, control: ControlNetwork | None = None) -> RateController:
    """The controller `name`. Raises `ConfigError` for an unknown name, or a learned one without a control."""
    if name not in RATE_CONTROLLERS:
        raise ConfigError(f"there is no rate controller {name!r}: choose among {', '.join(RATE_CONTROLLERS)}")
    return RATE_CONTROLLERS[name](codec, control)


__all__ = ["RATE_CONTROLLERS", "LearnedControl", "RateController", "best_within", "build_rate_controller"]
