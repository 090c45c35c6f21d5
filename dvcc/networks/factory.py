"""Objects of your own code by their place, "package.module:name", as they are written on the command line."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

from torch import nn

from dvcc.errors import ConfigError, DvccError

_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_place(word: str) -> bool:
    """Whether a word has the form package.module:name."""
    return _PLACE.fullmatch(word) is not None


def import_place(place: str) -> Any:
    """Import what is at `place`; modules of the current folder are found, too. Raises `ConfigError`."""
    module_name, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # at the end, so that nothing there hides an installed package
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module's own code can raise anything
        raise ConfigError(
            f"{place}: {module_name} cannot be imported ({_reason(error)}): run from the folder that has it, or install it"
        ) from error
    if not hasattr(module, name):
        public = [attribute for attribute in vars(module) if not attribute.startswith("_")]
        raise ConfigError(f"{place}: {module_name} has no {name}: it has {', '.join(public) or 'nothing'}")
    return getattr(module, name)


def call_place(place: str, **settings: Any) -> Any:
    """Import the function or class at `place` and call it with `settings`. Raises `ConfigError`."""
    factory = import_place(place)
    if not callable(factory):
        raise ConfigError(f"{place} is a {type(factory).__name__}: name a function or a class")
    try:
        return factory(**settings)
    except DvccError:
        raise
    except Exception as error:  # a factory's own code can raise anything
        plain = {name: repr(value) if isinstance(value, (str, int, float)) else ".." for name, value in settings.items()}
        words = ", ".join(f"{name}={value}" for name, value in plain.items())  # a network would be pages
        raise ConfigError(f"{place}({words}) failed ({_reason(error)}): correct it, or name another function") from error


def make_module(place: str) -> nn.Module:
    """Return the network that the function or class at `place` makes, called without arguments.

    Raises `ConfigError` unless it makes an `nn.Module`.
    """
    module = call_place(place)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{place}() gave a {type(module).__name__}: return a torch.nn.Module")
    return module


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
