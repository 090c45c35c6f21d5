"""Mutations of networks, weights, runs, caches, maps and command lines: decided by a random generator."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

from .videos import raw

NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 1e30, -1e30, float("nan"), float("inf"), 0.5, 1e-30)
WORDS: tuple[object, ...] = (
    *NUMBERS,
    "",
    "x",
    "a" * 5000,
    "../../x",
    "\x00",
    "é\ud800"[:1],
    None,
    True,
    [],
    {},
    [[]],
    {"a": [1]},
)
LETTERS = ("", "-", "=", "x", "9", ".", ",", "[", "{", "$", "é", "\n")
VALUES = (*WORDS, "-", "--", "nan", "1e999", "-5", "0x10", "${oc.env:HOME}", "[1,", "{a", "%s%n", "/proc/version")
"""What stands in place of a letter, or of a value, of a command line."""


def onnx_graph(data: bytes, rng: random.Random) -> bytes:
    """Change a node, an attribute, a weight's shape or type, a size of the input, or what is said of it; renew the checksum."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(data)
    graph, kind = model.graph, rng.randrange(8)
    node, weight = rng.choice(list(graph.node)), rng.choice(list(graph.initializer))
    if kind == 0 and node.attribute:
        attribute = rng.choice(list(node.attribute))
        value = rng.choice([0, -1, 2, 2**31, 2**62])
        with contextlib.suppress(TypeError, ValueError):
            new = [value] * len(attribute.ints) if attribute.ints else value
            attribute.CopyFrom(helper.make_attribute(attribute.name, new))
    elif kind == 1:
        graph.node.remove(node)
    elif kind == 2:
        node.op_type = rng.choice(list(graph.node)).op_type
    elif kind == 3 and weight.dims:
        weight.dims[rng.randrange(len(weight.dims))] = rng.choice([0, 1, -1, 3, 2**31, 2**40])
    elif kind == 4:
        weight.data_type = rng.choice([1, 2, 6, 7, 9, 10, 11, 99])
    elif kind == 5 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*(i.name for i in graph.initializer), "x", ""])
    elif kind == 6:
        dims = rng.choice([*graph.input, *graph.output]).type.tensor_type.shape.dim
        if dims:
            rng.choice(list(dims)).dim_value = rng.choice([0, 1, 3, 2**31])
    else:
        _mutate_properties(model, rng)
    return signed(model.SerializeToString(deterministic=True))


def _mutate_properties(model: Any, rng: random.Random) -> None:
    chosen = rng.choice(list(model.metadata_props))
    if chosen.key == "sha256":
        return
    try:
        value = json.loads(chosen.value)
    except ValueError:
        chosen.value = rng.choice(["", "x", "{}"])
        return
    chosen.value = json.dumps(tree(value, rng))


def signed(data: bytes) -> bytes:
    """Renew the checksum of a control, as whoever means harm would."""
    import onnx

    stored = {prop.key: prop.value for prop in onnx.load_from_string(data).metadata_props}
    digest = stored.get("sha256", "")
    if len(digest) != 64:
        return data
    blank = data.replace(digest.encode(), b"0" * 64)
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode())


def tree(value: Any, rng: random.Random) -> Any:
    """Change one leaf or branch of what JSON or YAML holds."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key, kind = rng.choice(list(value)), rng.randrange(6)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: rng.choice(WORDS) if kind == 1 else tree(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return rng.choice([value[:at], value * 2, [*value[:at], tree(value[at], rng), *value[at + 1 :]]])
    return rng.choice(WORDS)


def tensors(data: bytes, rng: random.Random) -> bytes:
    """Change the header of safetensors: its length, a shape, a type, the place of a tensor, or what is said of them."""
    (length,) = struct.unpack("<Q", data[:8])
    header, kind = json.loads(data[8 : 8 + length]), rng.randrange(6)
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    if kind == 0:
        return struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 2**31, 2**63])) + data[8:]
    if kind == 1:
        header[name]["shape"] = rng.choice([[], [0], [2**40], [-1], header[name]["shape"][::-1], [*header[name]["shape"], 1]])
    elif kind == 2:
        header[name]["dtype"] = rng.choice(["F64", "F16", "BF16", "I8", "BOOL", "U8", "X9", "F8_E4M3"])
    elif kind == 3:
        header[name]["data_offsets"] = rng.choice([[0, 0], [0, 2**60], [5, 1], header[rng.choice(names)]["data_offsets"]])
    elif kind == 4:
        header.pop(name)
    else:
        said = tree(header.get("__metadata__", {}), rng)
        header["__metadata__"] = {k: str(tree(v, rng))[:9999] for k, v in said.items()} if isinstance(said, dict) else said
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def archive(data: bytes, rng: random.Random) -> bytes:
    """Change a member of a zip file, as NumPy's and PyTorch's are, and store it with the right checksum; or leave it out."""
    with zipfile.ZipFile(io.BytesIO(data)) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    chosen = rng.choice(list(members))
    if rng.random() < 0.15:
        del members[chosen]
    elif chosen.endswith(".npy") and rng.random() < 0.6:
        members[chosen] = array(members[chosen], rng)
    else:
        members[chosen] = raw(members[chosen], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in members.items():
            written.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def array(data: bytes, rng: random.Random) -> bytes:
    """Change what the head of a NumPy array says of its shape and type."""
    types = [(b"'|i1'", b"'|O' "), (b"'|u1'", b"'<U9'"), (b"'<i8'", b"'<f8'")]
    old, new = rng.choice([*types, (b"False", b"True "), (b"(", b"(9999999999,")])
    return data.replace(old, new, 1)


def text(data: bytes, rng: random.Random) -> bytes:
    """Change a value, a key or the shape of YAML."""
    import yaml

    if rng.random() < 0.3:
        return raw(data, rng)
    return yaml.safe_dump(tree(yaml.safe_load(data), rng), allow_unicode=True).encode("utf-8", "surrogatepass")


def words(line: Sequence[str], rng: random.Random) -> list[str]:
    """Change the words of a command line: one lost, doubled, moved, misspelt, or of another value."""
    changed = list(line)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, kind = rng.randrange(len(changed)), rng.randrange(6)
        if kind == 0 and len(changed) > 1:
            del changed[at]
        elif kind == 1:
            changed.insert(at, changed[at])
        elif kind == 2:
            other = rng.randrange(len(changed))
            changed[at], changed[other] = changed[other], changed[at]
        elif kind == 3 and changed[at]:
            place, letter = rng.randrange(len(changed[at])), rng.choice(LETTERS)
            changed[at] = changed[at][:place] + letter + changed[at][place + 1 :]
        else:
            key, equals, _ = changed[at].partition("=")
            value = str(rng.choice(VALUES))
            changed[at] = key + equals + value if equals and rng.random() < 0.7 else value
    return [word.replace("\0", "") for word in changed if len(word) < 100_000]
