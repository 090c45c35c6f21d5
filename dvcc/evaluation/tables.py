"""Tables of reports: as Markdown, and as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """A table of a report. title: what it shows, and how to read it. notes: sentences below it."""

    title: str
    head: Sequence[str]
    body: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Return title, table and notes as Markdown."""
        return f"{self.title}\n\n" + "\n".join([markdown_table(self.head, self.body), *(f"{note}\n" for note in self.notes)])


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, padded so that it also reads well in a terminal."""
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in [head, *body]
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def number(value: float | None, spec: str) -> str:
    """Return the value in a format such as ".3f"; "-" for None."""
    return "-" if value is None else format(value, spec)


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of equal keys as CSV, with a header line."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
