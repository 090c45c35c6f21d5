"""Write docs/licences.md: the licence of every package of requirements.lock, as its own metadata say.

Run it after `make lock`, in an environment that has the new lock: `python docs/licences.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
_UNSAID = "not said"
_LONGEST = 40  # characters of a licence's name: what is longer is its text

_HEAD = """# Licences

`python docs/licences.py` wrote this page from the metadata of the packages that `requirements.lock` installs, development tools
among them. The core needs `av`, `numpy`, `onnxruntime` and `rich` alone. The wheels of `av` contain FFmpeg with libx264 and
libx265, which are under the GPL: see [NOTICE](../NOTICE). A package that has several versions, by Python's, has a row for each.
"""


def locked() -> Iterator[tuple[str, str]]:
    """Yield (name, version) for every package of the lock, of other systems too."""
    for found in re.finditer(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE):
        yield found[1], found[2]


def licence(name: str) -> str | None:
    """Return what an installed package says of its licence; None where it is not installed."""
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return None
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    text = (metadata.get("License") or "").strip()
    if text and text != "UNKNOWN" and len(text) <= _LONGEST and (not classifiers or text.startswith("LicenseRef")):
        return text
    return " and ".join(classifiers) or _UNSAID


def page() -> str:
    """Return the page."""
    rows = [f"| {name} | {version} | {licence(name) or 'not installed on Linux'} |" for name, version in sorted(locked())]
    return "\n".join([_HEAD, "| package | version | licence |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
