"""Digests of source code, for the keys of caches: a result depends on the code that made it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from threading import Lock

_PARSER = Lock()  # Python 3.11's raises SystemError where two threads use it


@cache
def source_digest(*modules: str, within: tuple[str, ...] = ()) -> str:
    """SHA-256 of the source of these modules, and of those that they import, one through another, from the packages `within`.

    modules: full names, of modules or of packages, of which every file counts.
    """
    sources: dict[str, bytes] = {}
    wanted = list(modules)
    while wanted:
        name = wanted.pop()
        if name in sources or (path := _path(name)) is None:
            continue
        sources[name] = path.read_bytes()
        if path.name == "__init__.py" and name in modules:
            wanted += [f"{name}.{file.stem}" for file in path.parent.glob("*.py") if file.stem != "__init__"]
        wanted += [imported for imported in _imports(sources[name]) if imported.startswith(within)]
    total = hashlib.sha256()
    for name in sorted(sources):
        total.update(f"{name} {len(sources[name])} ".encode() + sources[name])
    return total.hexdigest()


def _path(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # a name inside a module, or a module without a spec
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(source: bytes) -> set[str]:
    """Names that a module imports; what comes out of a package may be a module of it."""
    names: set[str] = set()
    with _PARSER:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
