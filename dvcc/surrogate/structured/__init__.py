"""A differentiable H.264: the standard's steps as layers, which need no real encode."""

from __future__ import annotations

from dvcc.surrogate.structured.model import StructuredSurrogate

__all__ = ["StructuredSurrogate"]
