"""How every command line ends: one sentence and status 2 for what a user can correct."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

from dvcc.errors import DvccError


def guarded(run: Callable[[], Any]) -> int:
    """Exit status of `run()`: 0, or 2 after one sentence on stderr, or 130 when interrupted. A bug keeps its traceback.

    141 in silence when nobody reads the output any more, as with `| head -1`. A character that the terminal's encoding lacks is
    printed as a question mark.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        run()
        sys.stdout.flush()  # or Python does it at its end, where nobody can catch what it raises
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still has to flush
        return 141
    except DvccError as error:
        text = str(error)
        if "Original Traceback" in text:  # raised in a data loader's worker, which sends its traceback as the message
            text = text.strip().splitlines()[-1].partition(": ")[2]
        print(f"error: {text}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno is None:
            raise
        where = f" ({error.filename})" if error.filename else " while a file was written"
        advice = "free some space, check permissions, or write elsewhere"
        if isinstance(error, (NotADirectoryError, FileExistsError)):
            advice = "a file stands where a folder is needed, so write elsewhere"
        print(f"error: {error.strerror}{where}: {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(": ".join(["interrupted", *map(str, stop.args)]), file=sys.stderr)
        return 130
    return 0
