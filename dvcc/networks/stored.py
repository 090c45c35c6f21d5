"""What files of weights say of themselves: it is damaged, or made by somebody else, as easily as their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvcc.errors import CheckpointError, DvccError


@contextmanager
def taken_from(path: str | Path) -> Iterator[None]:
    """Raise `CheckpointError` for what is missing in a file's own words, or of another type or shape than the block needs."""
    try:
        yield
    except DvccError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise CheckpointError(f"{path} says of itself what does not fit ({reason}): copy or train it again") from error
