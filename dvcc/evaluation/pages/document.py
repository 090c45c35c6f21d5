"""A page: articles of results in one HTML file, with its style and script inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from dvcc.errors import DvccError

_ARTICLE = re.compile(r"<article\b.*?</article>", re.DOTALL)


def fill(package: str, template: str, **values: Any) -> str:
    """Return the template of a package with its values, which are escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(files(package).joinpath(template).read_text("utf-8")).render(**values)


def document(title: str, articles: Sequence[str], *, introduction: Sequence[str] = ()) -> str:
    """Return a page of articles (HTML).

    introduction: paragraphs of plain text below the title; without any, the first article has the page's heading.
    """
    folder = files(__package__)
    return fill(
        __package__,
        "document.html",
        title=title,
        articles=articles,
        introduction=introduction,
        style=folder.joinpath("page.css").read_text("utf-8"),
        script=folder.joinpath("page.js").read_text("utf-8"),
    )


def join(title: str, pages: Sequence[str | Path], *, introduction: Sequence[str]) -> str:
    """Return one page with the articles of others, their headings one level deeper.

    pages: files that `document` made, each of another kind: identifiers stay as they are. Raises `DvccError` for a file without
    an article.
    """
    articles = []
    for path in pages:
        own = _ARTICLE.findall(Path(path).read_text("utf-8"))
        if not own:
            raise DvccError(f"{path} is no page of results: it has no article")
        articles += [re.sub(r"<(/?)h([123])\b", lambda tag: f"<{tag[1]}h{int(tag[2]) + 1}", article) for article in own]
    return document(title, articles, introduction=introduction)


def uri(file: bytes, kind: str) -> str:
    """Return a file as an address that holds it. kind: such as "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(file).decode()}"
