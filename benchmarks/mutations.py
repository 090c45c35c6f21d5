"""Put mutated inputs through the commands, under limits of memory and time, and count what went wrong.

    python benchmarks/mutations.py [--count 10000] [--seed 0] [--only videos,onnx,..] [--first N] [--numbers 3,5] [--keep DIR]

An outcome is good if the command ends with status 0 and its output is whole, or with one sentence of error and no output. It is
wrong if it is ended by a signal, takes too long or too much memory, shows a traceback, or leaves part of a file. Input number N
of a seed is the same on every machine with the same FFmpeg. Prints a table.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from mutating.inputs import Inputs, Trial

from dvcc._guard import guarded
from dvcc.errors import DvccError
from dvcc.evaluation.tables import markdown_table

_MOST_BYTES, _MOST_SECONDS, _MOST_FILE = 2 * 10**9, 60, 2 * 10**8  # resident, of the wall clock, of one file that is written
_LONGEST = 20
_PART = 99  # status of a command that said it had succeeded, and whose output cannot be read

_OF_TRAININGS = {"safetensors", "checkpoints", "configs", "cache entries"}


@dataclass
class Kind:
    """Inputs of one kind: how many of all, in shares, and what became of them."""

    share: int
    make: Callable[[Inputs, random.Random, Path], Trial]
    results: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)  # by number


def kinds() -> dict[str, Kind]:
    """Return all kinds of inputs by name."""
    return {
        "videos": Kind(48, Inputs.video),
        "command lines": Kind(20, Inputs.command_line),
        "onnx": Kind(12, Inputs.onnx),
        "maps": Kind(6, Inputs.maps),
        "safetensors": Kind(4, Inputs.safetensors),
        "checkpoints": Kind(4, Inputs.checkpoint),
        "configs": Kind(3, Inputs.config),
        "cache entries": Kind(3, Inputs.cache_entry),
        "zones": Kind(3, Inputs.zones),
    }


def run(trial: Trial, folder: Path) -> tuple[str, str]:
    """Run one trial in a process of its own; returns (what became of it, what it said)."""
    log = folder.parent / "log.txt"
    child = os.fork()
    if child == 0:
        _become(trial, folder, log)
    began, result = time.monotonic(), ""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - began > _MOST_SECONDS:
            result = "hang"
        elif _resident(child) > _MOST_BYTES:
            result = "memory"
        if result:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.002)
    said = log.read_text(errors="replace") if log.is_file() else ""
    log.unlink(missing_ok=True)
    return result or _judged(trial, folder, os.waitstatus_to_exitcode(status), said), said


def _become(trial: Trial, folder: Path, log: Path) -> None:
    """Be the command, and never return."""
    status = 70
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_FILE, _MOST_FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(output, number)
        os.chdir(folder)
        try:
            status = trial.run()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 2
        if status == 0 and not trial.is_whole():
            status = _PART
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _judged(trial: Trial, folder: Path, status: int, said: str) -> str:
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    if "Traceback" in said or status == 70:
        return "traceback"
    if status == _PART:
        return "partial output"
    left = [path.name for path in folder.rglob("*") if path.is_file() and path not in trial.inputs]
    if status == 0:
        extra = [name for name in left if name.startswith(".") and ".lock" not in name]
        return f"stray file {extra[0]}" if extra else "result"
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if status != 2 or len(errors) != 1:
        return f"status {status} with {len(errors)} sentences"
    if left and not trial.may_leave:
        return f"output {left[0]} beside an error"
    return "sentence"


def survive(
    folder: Path, numbers: Iterable[int], *, seed: int, only: str | None = None, keep: Path | None = None
) -> dict[str, Kind]:
    """Try the inputs of these numbers; returns what became of them by kind. keep: a folder for those that went wrong."""
    chosen = {name: kind for name, kind in kinds().items() if only is None or name in only.split(",")}
    inputs = Inputs(folder / "inputs", whole=bool(_OF_TRAININGS & {*chosen}))
    work = folder / "a" / "b" / "c" / "work"
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        name = rng.choices(list(chosen), [kind.share for kind in chosen.values()])[0]
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        trial = chosen[name].make(inputs, rng, work)
        began = time.monotonic()
        result, said = run(trial, work)
        chosen[name].seconds[number] = time.monotonic() - began
        chosen[name].results[result if result in ("result", "sentence") else "wrong"] += 1
        if result not in ("result", "sentence"):
            last = (said.strip().splitlines() or ["nothing said"])[-1]
            chosen[name].wrong.append(f"{number}: {result}: {trial.told} | {last[:200]}")
            print(f"{name} {chosen[name].wrong[-1]}", file=sys.stderr, flush=True)
            if keep is not None:
                shutil.copytree(work, keep / str(number), dirs_exist_ok=True)
                (keep / f"{number}.txt").write_text(f"{trial.told}\n{said}")
    return chosen


def report(tried: dict[str, Kind], *, seed: int) -> str:
    """Return the table, what went wrong, and the numbers of what took longest."""
    rows = []
    for name, kind in tried.items():
        rows.append([name, *(str(kind.results[what]) for what in ("result", "sentence", "wrong")), str(kind.results.total())])
    total = [str(sum(int(row[column]) for row in rows)) for column in range(1, 5)]
    head = ["inputs", "a whole result", "one sentence", "wrong", "all"]
    wrong = [sentence for kind in tried.values() for sentence in kind.wrong]
    seconds = {number: taken for kind in tried.values() for number, taken in kind.seconds.items()}
    longest = sorted(seconds, key=lambda number: seconds[number], reverse=True)[:_LONGEST]
    told = f"longest, at most {seconds[longest[0]]:.1f} s: {','.join(map(str, longest))}" if longest else "none were tried"
    return "\n".join([markdown_table(head, [*rows, ["together", *total]]), *wrong, told, f"seed {seed}"])


def main(words: Sequence[str] | None = None) -> None:
    """Mutate, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--numbers", help="those of single inputs, with commas between them, instead of --first and --count")
    parser.add_argument("--seconds", type=float, help="begin no other input after so long")
    parser.add_argument("--only", help="kinds, with commas between them")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that went wrong")
    arguments = parser.parse_args(words)
    began = time.monotonic()
    numbers: Iterable[int] = range(arguments.first, arguments.first + arguments.count)
    if arguments.numbers:
        numbers = [int(number) for number in arguments.numbers.split(",")]
    if arguments.seconds:
        numbers = takewhile(lambda _: time.monotonic() - began < arguments.seconds, numbers)
    with tempfile.TemporaryDirectory() as name:
        tried = survive(Path(name), numbers, seed=arguments.seed, only=arguments.only, keep=arguments.keep)
    print(report(tried, seed=arguments.seed))
    print(f"{time.monotonic() - began:.0f} s")
    if any(kind.wrong for kind in tried.values()):
        raise DvccError("some inputs went wrong: see above")


if __name__ == "__main__":
    sys.exit(guarded(main))
