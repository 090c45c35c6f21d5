"""How long the studies took, over all runs that have measured for them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvcc._files import write_atomic


class Times:
    """Seconds by study in a file: of the processor and by the clock.

    What was measured before is not measured again, so that the seconds of runs add up. A damaged file is as good as none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.seconds: dict[str, list[float]] = {
                name: [float(a), float(b)] for name, (a, b) in json.loads(path.read_bytes()).items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            self.seconds = {}

    @contextmanager
    def of(self, study: str) -> Iterator[None]:
        """Count the block, an interrupted one too."""
        processor, clock = time.process_time(), time.monotonic()
        try:
            yield
        finally:
            before = self.seconds.get(study, [0.0, 0.0])
            self.seconds[study] = [before[0] + time.process_time() - processor, before[1] + time.monotonic() - clock]
            write_atomic(self._path, json.dumps(self.seconds, indent=1))
