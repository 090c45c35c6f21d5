"""What metrics over a test set share: states of single clips that can be kept, added up or joined, and resampled."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch

State = dict[str, torch.Tensor | list[torch.Tensor]]
"""What a metric has been updated with: sums and lists, by name."""


class Metric(AbstractBase):
    """A figure over a test set: `update` with every clip, then `compute`.

    A subclass declares its states by `add_state` in `__init__`, after `super().__init__()`, and finds each as an attribute. A
    state that is a tensor is a sum, which `update` adds to; one that is a list of tensors is joined.
    """

    higher_is_better: bool = True

    def __init__(self) -> None:
        self._initial: State = {}

    def add_state(self, name: str, initial: torch.Tensor | list[torch.Tensor]) -> None:
        """Declare the state `name`, which is `initial` before the first update: zeros, or an empty list."""
        self._initial[name] = initial
        setattr(self, name, _copied(initial))

    def reset(self) -> None:
        """Forget every update."""
        for name, initial in self._initial.items():
            setattr(self, name, _copied(initial))

    @property
    def state(self) -> State:
        """A copy of every state, by name."""
        return {name: _copied(getattr(self, name)) for name in self._initial}

    def set_states(self, states: Sequence[State]) -> None:
        """Be as if updated with what each of the `states` was updated with, and nothing else."""
        self.reset()
        for name in self._initial:
            if states:
                setattr(self, name, _added([state[name] for state in states]))

    @abstractmethod
    def update(self, prediction: Any, labels: Any, /) -> None:
        """Take in the predictions of some frames, and what is true of them."""

    @abstractmethod
    def compute(self) -> torch.Tensor:
        """Return the figure, a scalar; NaN where nothing defines it."""


def _copied(value: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return list(value) if isinstance(value, list) else value.clone()


def _added(values: Sequence[torch.Tensor | list[torch.Tensor]]) -> torch.Tensor | list[torch.Tensor]:
    if isinstance(values[0], list):
        return [item for value in values for item in value]
    return torch.stack(cast("list[torch.Tensor]", values)).sum(0)
