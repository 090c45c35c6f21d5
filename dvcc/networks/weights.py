"""Weights on disk: safetensors with a kind, a config and a checksum. No pickled code is ever executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dvcc._files import write_atomic
from dvcc.errors import CheckpointError
from dvcc.networks.stored import taken_from


@dataclass(frozen=True)
class Weights:
    """kind: what model ("surrogate", "control", "student"). config: how to build it. state: its tensors."""

    kind: str
    config: dict[str, Any]
    state: dict[str, torch.Tensor]


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write `weights` as safetensors; the file appears whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.state.items()}
    metadata = {"kind": weights.kind, "config": json.dumps(weights.config), "sha256": state_digest(state)}
    write_atomic(path, _in_order(save(state, metadata=metadata)))


def _in_order(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted: the library's order is another in every process."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def load_weights(path: str | Path, *, kind: str) -> Weights:
    """Read what `save_weights` wrote. Raises `CheckpointError` if it is missing, damaged, or of another kind."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint at {path}: train one with dvcc train {kind}, or set its path")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy or train it again") from error
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{path} holds {metadata.get('kind', 'an unknown kind of')!r} weights, but {kind!r} is needed")
    if metadata.get("sha256") != state_digest(state):
        raise CheckpointError(f"{path} does not match its checksum, so it is damaged: copy or train it again")
    with taken_from(path):
        config = json.loads(metadata["config"])
        return Weights(kind, {**config}, state)


def load_published(path: str | Path, *, key: str) -> Mapping[str, torch.Tensor]:
    """Return a state dict published by others (.pth, tensors only, or .safetensors). key: of the setting that names it.

    Raises `CheckpointError`.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"there are no weights at {path}: set {key}=PATH to the published file")
    try:
        if Path(path).suffix == ".safetensors":
            with safe_open(str(path), "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own message tells how to run the code
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged: it could run code, so it is not loaded; give a file of tensors alone"
        ) from error
    except Exception as error:  # torch.load raises half a dozen unrelated types for damaged files
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as plain tensors ({reason}): download the published file again") from error


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], *, path: str | Path) -> None:
    """`load_state_dict(strict=True)` with one clear sentence. Raises `CheckpointError` if names or shapes differ."""
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise CheckpointError(
            f"{path} holds weights of another model than {type(module).__name__} ({'; '.join(lines)[:200]}): "
            f"choose the matching model or file"
        ) from error


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors on any device: names, types, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return total.hexdigest()


def renamed(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    """Return the name of a weight in another layout: regular expressions and what stands for them, one after the other."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name
