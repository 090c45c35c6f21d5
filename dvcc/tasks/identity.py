"""What a task's answers depend on, as a key for caches: never its weights alone.

Two ONNX files of equal weights may be different networks, and one file fed in two ways gives two answers. So the key is made of
the bytes of files, every weight and buffer, every setting of every module, what it measures, and the source that runs it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dvcc._source import source_digest
from dvcc.networks.onnx_file import OnnxFile
from dvcc.networks.onnx_torch import OnnxModule
from dvcc.tasks.base import Task

_OURS = ("dvcc.tasks", "dvcc.networks", "dvcc.pixels", "dvcc.media.protocols")
_OF_TORCH = frozenset([*vars(nn.Module()), "training", "_is_full_backward_hook"])


def task_key(task: Task) -> str:
    """SHA-256 of everything that decides what `task` says of a picture."""
    total = hashlib.sha256()
    for word in _words_of(task):
        total.update(f"{len(word)} ".encode() + word)
    return total.hexdigest()


def _words_of(task: Task) -> Iterable[bytes]:
    yield repr((task.metric_name, sorted(_versions(task).items()))).encode()
    sources: set[str] = set()
    for name, module in task.named_modules():
        kind = type(module)
        yield f"{name} {kind.__module__}.{kind.__qualname__}".encode()
        for setting, value in sorted(vars(module).items()):
            if setting not in _OF_TORCH and not (module is task and setting == "model"):  # a path: the file itself counts
                yield f"{setting}={_setting(value)}".encode()
        for tensors in (module.named_parameters(recurse=False), module.named_buffers(recurse=False)):
            for tensor_name, tensor in tensors:
                yield f"{tensor_name} {tensor.dtype} {tuple(tensor.shape)}".encode()
                yield tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        sources.update(_source(base) for base in kind.__mro__ if base not in (object, nn.Module))
    yield from (source.encode() for source in sorted(sources))


def _setting(value: Any) -> str:
    """Return a setting of a module in words that are the same in every run."""
    if isinstance(value, OnnxFile):
        return value.digest
    if isinstance(value, nn.Module):
        return "module"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = value.detach().cpu().contiguous() if isinstance(value, torch.Tensor) else np.ascontiguousarray(value)
        content = np.asarray(array).tobytes()
        return f"{array.dtype} {tuple(array.shape)} {hashlib.sha256(content).hexdigest()}"
    if isinstance(value, Mapping):
        return repr({str(key): _setting(part) for key, part in value.items()})
    if isinstance(value, (list, tuple)):
        return repr([_setting(part) for part in value if not isinstance(part, nn.Module)])
    if isinstance(value, Path):
        return value.name
    if callable(value) and hasattr(value, "__qualname__"):
        return str(getattr(value, "__qualname__", type(value).__name__))
    if type(value).__module__.startswith("dvcc.") and not dataclasses.is_dataclass(value):
        return f"{type(value).__qualname__} {_setting(vars(value))}"
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text


def _source(kind: type) -> str:
    """Return the code of a class: a digest of the files that it stands on if it is dvcc's or the user's, else its package."""
    top = kind.__module__.partition(".")[0]
    if top == "dvcc":
        return f"{kind.__module__} {source_digest(kind.__module__, within=_OURS)}"
    try:
        file = inspect.getsourcefile(kind)
    except (TypeError, OSError):  # written in a terminal or a notebook
        file = None
    if file and "site-packages" not in file and Path(file).is_file() and not file.startswith(sys.base_prefix):
        return f"{kind.__module__} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    code = getattr(getattr(kind, "forward", None), "__code__", None)
    return f"{kind.__module__}.{kind.__qualname__} {hashlib.sha256(code.co_code if code else b'').hexdigest()}"


def _versions(task: Task) -> dict[str, str]:
    """Versions of the libraries that the network's modules come from, and of onnxruntime where it runs a file."""
    names = {type(module).__module__.partition(".")[0] for module in task.modules()} | {"torch", "numpy"}
    if any(isinstance(module, OnnxModule) for module in task.modules()):
        names |= {"onnxruntime"}
    return {name: str(getattr(sys.modules.get(name), "__version__", "")) for name in names}
