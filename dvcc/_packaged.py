"""What comes with the package beside its code, and what its core comes without."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from dvcc.errors import MissingExtraError


def packaged_folder(name: Literal["configs", "checkpoints"]) -> Path:
    """Return the folder `name` of the repository: inside the package where a wheel installed it, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def install_extra(extra: str) -> str:
    """Return what to do to have the packages of an extra, to be read after a colon."""
    return f"pip install 'WHEEL[{extra}]' with the path of dvcc's wheel, or '.[{extra}]' in its checkout"


def require(*modules: str, wanted_by: str, extra: str = "train") -> None:
    """Raise `MissingExtraError` unless every one of `modules` is installed; none of them is imported.

    wanted_by: what needs them, the subject of the sentence. extra: which extra of the package brings them.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"{wanted_by} needs {missing[0]}, which is not installed: {install_extra(extra)}")
