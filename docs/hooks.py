"""What MkDocs does to a page before it becomes HTML: pages of the root, source of functions, formulas as MathML, links."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its blocks ```include, ```source and ```math, its inline $..$ and its links out of docs/ replaced."""
    markdown = re.sub(r"```include\n(\S+)\n```", lambda found: included(found[1]), markdown)
    markdown = re.sub(r"```source\n(\S+) (\S+)\n```", lambda found: listing(*found.groups()), markdown)
    markdown = re.sub(r"```math\n(.*?)```", lambda found: convert(found[1].strip(), display="block"), markdown, flags=re.DOTALL)
    parts = re.split(r"(```.*?```|`[^`\n]*`)", markdown, flags=re.DOTALL)  # code stays as it is
    parts[::2] = [re.sub(r"\$([^$\n]+)\$", lambda found: convert(found[1]), part) for part in parts[::2]]
    return re.sub(r"\[([^\]]*)\]\(\.\./([^)#]+)(?:#[^)]*)?\)", lambda found: outside(*found.groups()), "".join(parts))


def included(file: str) -> str:
    """Return a page of the repository's root as if it stood in docs/, its links too."""
    text = re.sub(r"\]\((?!https?:|#|docs/)", "](../", (ROOT / file).read_text())
    return text.replace("](docs/", "](")


def listing(file: str, name: str) -> str:
    """Return the source of a function or `Class.method` of a file as a code block, without its docstring.

    Raises `LookupError` for a name that the file does not define.
    """
    text = (ROOT / file).read_text()
    body: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part]
        if not found:
            raise LookupError(f"{file} defines no {name}: correct the page that shows it")
        body = found[0].body
    lines = text.splitlines()
    first, *rest = body
    shown = lines[found[0].lineno - 1 : found[0].end_lineno]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and rest:
        shown = lines[found[0].lineno - 1 : first.lineno - 1] + lines[first.end_lineno or 0 : found[0].end_lineno]
    return f'```python title="{file}"\n{textwrap.dedent(chr(10).join(shown))}\n```'


def outside(text: str, path: str) -> str:
    """Return the words of a link to a file of the repository, which the site does not have, with the file's name.

    Raises `LookupError` for a file that is not there.
    """
    if not (ROOT / path).exists():
        raise LookupError(f"a page links to {path}, which is not there")
    return text if path in text else f"{text} (`{path}`)"
