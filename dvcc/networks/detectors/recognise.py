"""Which layout a detector's answers have: by their shapes, by their values, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.detectors.base import Layout, Size
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.onnx_file import shape_words


def recognise(
    layouts: Mapping[str, Layout], answers: Sequence[np.ndarray], canvas: Size, *, options: NetworkOptions, what: str
) -> Layout:
    """Return the layout of the answers to two probe pictures.

    options: a user's, of which layout and classes count. what: the file or module, for errors. Raises `ConfigError` for a name
    that is none, or for answers that more than one layout could have; `CheckpointError` for answers that have no layout, or not
    the named one.
    """
    named = options.layout
    if named is not None and named not in layouts:
        raise ConfigError(f"there is no layout {named!r}: choose task.layout={'|'.join(layouts)}")
    shaped = shaped_as(layouts, answers, canvas)
    fitting = [layout for layout in shaped if layout.plausible(layout.of_classes(answers, options.classes), canvas)]
    if named is not None:
        return _named(layouts[named], shaped, fitting, answers, canvas, what)
    sure = [layout for layout in fitting if not layout.named_only]
    if len(sure) == 1:
        return sure[0]
    candidates = sure or fitting
    if candidates:
        forms = "; ".join(f"task.layout={layout.name} for {layout.form}, fed {layout.feed.words()}" for layout in candidates)
        raise ConfigError(f"{what} {gives(answers, canvas)}, which more than one layout could mean: set {forms}")
    if shaped:
        names = " or ".join(layout.name for layout in shaped)
        export = "export it with its post-processing up to boxes and scores"
        advice = " or ".join([export, *(layout.advice for layout in shaped if layout.advice)])
        raise CheckpointError(
            f"{what} {gives(answers, canvas)}: that is the form of {names}, but not its numbers ({_ranges(answers)}); scores lie "
            f"within 0..1 there, and boxes where the form says; {advice}"
        )
    forms = "; ".join(f"{layout.name}: {layout.form}" for layout in layouts.values())
    raise CheckpointError(f"{what} {gives(answers, canvas)}, which is no detector's layout that dvcc knows ({forms})")


def shaped_as(layouts: Mapping[str, Layout], answers: Sequence[np.ndarray], canvas: Size) -> list[Layout]:
    """Return the layouts whose form answers have, whatever their values."""
    return [layout for layout in layouts.values() if layout.shaped(answers, canvas)]


def outputs_of(
    layouts: Mapping[str, Layout], answers: Sequence[np.ndarray], canvas: Size, names: Sequence[str] = ()
) -> list[int]:
    """Return the numbers of the answers that count, in order.

    They are those that a layout knows by their `names`; else all; or, where those have no layout's form, without the maps of
    features or masks beside them, or with the maps last.
    """
    plain = [name.split(":")[0] for name in names]
    for layout in layouts.values():
        if layout.outputs and set(layout.outputs) <= set(plain):
            numbers = [plain.index(name) for name in layout.outputs]
            if layout.shaped([answers[i] for i in numbers], canvas):
                return numbers
    flat = [i for i, value in enumerate(answers) if value.ndim <= 3]
    maps = [i for i, value in enumerate(answers) if value.ndim > 3]
    every = list(range(len(answers)))
    for numbers in (every, flat + maps, flat):
        if numbers and shaped_as(layouts, [answers[i] for i in numbers], canvas):
            return numbers
    return every


def gives(answers: Sequence[np.ndarray], canvas: Size) -> str:
    """In words: what came of what; of two pictures, one is spoken of."""
    shapes = [[1 if i == 0 and side == 2 else side for i, side in enumerate(value.shape)] for value in answers]
    return f"gives {' and '.join(map(shape_words, shapes))} for a picture of {canvas[0]}x{canvas[1]}"


def _named(
    layout: Layout, shaped: list[Layout], fitting: list[Layout], answers: Sequence[np.ndarray], canvas: Size, what: str
) -> Layout:
    if layout not in shaped:
        others = ", ".join(other.name for other in fitting or shaped) or "none that dvcc knows"
        raise CheckpointError(
            f"{what} {gives(answers, canvas)}, but task.layout={layout.name} is {layout.form}; layouts that fit: {others}"
        )
    return layout


def _ranges(answers: Sequence[np.ndarray]) -> str:
    return ", ".join(f"{value.min():.3g} to {value.max():.3g}" for value in answers if value.size)
