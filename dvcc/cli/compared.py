"""What `dvcc compare` prints of its encodes, and keeps of them in compare.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dvcc._words import decibels, direction

if TYPE_CHECKING:
    from dvcc.evaluation.compare.encoding import Measured


def row(measured: Measured) -> dict[str, Any]:
    """Return the figures of an encode, as JSON has them."""
    return {
        "controller": measured.controller,
        "target_kbps": measured.target_kbps,
        "achieved_kbps": measured.bitrate_kbps,
        "metric": finite(measured.metric),
        "psnr": finite(measured.psnr),
        "psnr_inside": finite(measured.psnr_inside),
        "psnr_outside": finite(measured.psnr_outside),
        "encodes": measured.num_encodes,
        "seconds": measured.seconds,
        "bits_per_frame": measured.bits_per_frame.tolist(),
    }


def finite(value: Any) -> Any:
    """Return the value, or None: JSON has no NaN."""
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def directions(metric: str, *, higher_is_better: bool) -> str:
    """Return which way each metric of the table is better."""
    better = {metric: higher_is_better, "PSNR (dB)": True}
    return "; ".join(f"{name}: {direction(higher)}" for name, higher in better.items())


def table(measured: list[Measured], names: dict[str, str], metric: str, *, sides: bool) -> str:
    """Return a line per encode; sides: with PSNR inside and outside the objects."""
    columns = ["rate controller", "asked", "kbit/s", metric, "PSNR (dB)", *(["inside", "outside"] if sides else [])]
    rows = [[*columns, "encodes", "seconds"]]
    for m in measured:
        figures = [f"{m.target_kbps:.4g}", f"{m.bitrate_kbps:.1f}", f"{m.metric:.4f}", decibels(m.psnr)]
        figures += [decibels(m.psnr_inside), decibels(m.psnr_outside)] if sides else []
        rows.append([names[m.controller], *figures, str(m.num_encodes), f"{m.seconds:.1f}"])
    if metric == rows[0][4]:
        rows = [row[:3] + row[4:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(line) for line in lines)
