"""What a control sees besides the picture: a family of pretrained networks. A member is one file and one line here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvcc.control.eyes.base import Eyes
from dvcc.control.eyes.efficientvit_b0 import EfficientViTEyes
from dvcc.control.eyes.nanodet_plus_m import NanoDetEyes
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.sources import CHECKPOINTS

EYES: dict[str, type[Eyes] | None] = {"none": None, "nanodet_plus_m": NanoDetEyes, "efficientvit_b0": EfficientViTEyes}


def kind_of(name: str) -> type[Eyes] | None:
    """Return the eyes `name`; None for "none". Raises `ConfigError` that names the choices."""
    if name not in EYES:
        raise ConfigError(f"there are no eyes {name!r}: choose among {', '.join(EYES)}")
    return EYES[name]


def make_eyes(name: str, *, features: str | None, every: int, folder: Path) -> tuple[Eyes, Path] | None:
    """Eyes to train with, and their ONNX file, in `folder` unless it is in checkpoints/; None for "none".

    Raises `ConfigError` for an unknown name or features, `CheckpointError` when the weights are missing.
    """
    kind = kind_of(name)
    if kind is None:
        if features is not None:
            raise ConfigError(f"eyes.features={features} needs eyes: set eyes.name to {' or '.join(list(EYES)[1:])}")
        return None
    path = kind.make_file(folder)
    return kind(path.read_bytes(), features=features, every=every), path


def load_eyes(settings: Mapping[str, Any], *, beside: Sequence[Path] = (), control: str) -> Eyes:
    """Return the eyes that a control was trained with, by its `Eyes.settings`.

    Their file is looked for in the folders `beside` and in checkpoints/.

    control: what it is called, for an error. Raises `CheckpointError` for unknown eyes, a missing file, or another one.
    """
    kind = EYES.get(settings["name"])
    if kind is None:
        kinds = ", ".join(name for name, eyes in EYES.items() if eyes)
        raise CheckpointError(f"{control} was trained with eyes {settings['name']!r}, and this dvcc has {kinds}: train it again")
    path = find_file(settings, beside=beside, control=control)
    return kind(path.read_bytes(), features=settings["features"], every=settings["every"])


def find_file(settings: Mapping[str, Any], *, beside: Sequence[Path] = (), control: str) -> Path:
    """Return the file of a network that a control takes along, by the name and the SHA-256 that it stores.

    See `load_eyes`, which raises the same.
    """
    paths = [path for folder in (*beside, CHECKPOINTS) if (path := folder / settings["file"]).is_file()]
    if not paths:
        raise CheckpointError(
            f"{control} sees through {settings['file']}, which is not beside it: copy it from where the control was made"
        )
    for path in paths:
        if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) == settings["sha256"]:
            return path
    raise CheckpointError(
        f"{paths[0]} is another file than the one that {control} takes (SHA-256 {digest[:12]}.. instead of "
        f"{settings['sha256'][:12]}..): copy that one from where the control was made"
    )


__all__ = ["EYES", "Eyes", "find_file", "kind_of", "load_eyes", "make_eyes"]
