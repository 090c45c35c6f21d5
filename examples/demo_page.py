"""Join the pages of `make demo` into one: what to open when it has ended.

    python examples/demo_page.py [FOLDER]

FOLDER is runs/demo without words. It takes the pages FOLDER/compare/index.html and FOLDER/evaluation/index.html, or the first of
them while the second is not there yet. It writes FOLDER/index.html, and prints its path.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dvcc.evaluation.pages.document import join

TITLE = "What make demo measured"
INTRODUCTION = [
    "First: the rule of objects against two-pass ABR on two seconds of a street. Nothing was fitted on this clip. It was chosen "
    "because it shows the rule at work, and the judge is the network that decides where the bits go. So it shows what can be "
    "gained at best. docs/results.md says what happens on many clips.",
    "Second: a control that this demo trained on eight clips of two videos, an animation and a phone call. It is compared with "
    "x264's own rate control on a third video, city traffic, which resembles neither. So it shows that the path from training to "
    "an honest figure works, not what can be gained.",
]
UNFINISHED = "The second part is still being made: reload this page when make demo has ended."


def main(folder: str = "runs/demo") -> None:
    """Write the page, and print where it is."""
    there = Path(folder)
    compared, evaluated = (there / part / "index.html" for part in ("compare", "evaluation"))
    pages = [compared, evaluated] if evaluated.is_file() else [compared]
    introduction = INTRODUCTION if len(pages) == 2 else [*INTRODUCTION, UNFINISHED]
    page = there / "index.html"
    page.write_text(join(TITLE, pages, introduction=introduction), encoding="utf-8")
    print(f"open in a browser: {page.resolve().as_uri()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
