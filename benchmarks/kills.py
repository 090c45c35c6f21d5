"""Kill commands at random moments, run them again, and compare what they leave with an undisturbed run.

    python benchmarks/kills.py [--kills 15] [--seed 0] [--only encode,export,..]

Every command is killed by SIGKILL, in the middle of its work and after nothing but its imports. It is wrong if a file that is
there after the kill is neither what the undisturbed run leaves nor one that is known to grow, and if the same command, run again
until it ends, leaves another byte than the undisturbed run. Prints a table.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from dvcc import CRF, X264, Clip
from dvcc._guard import guarded
from dvcc.datasets.synthetic import SyntheticClips
from dvcc.errors import DvccError
from dvcc.evaluation.tables import markdown_table

_TIMEOUT = 300  # seconds for one command
_MOST_ATTEMPTS = 4  # for each kill: a run may have ended before its moment comes
_GROWING = ("metrics.csv", "last.ckpt")
"""Files of a run that have their names before the run has ended: the log by rows, the checkpoint by whole ones."""
_PAGES = ("report.md", "index.html")
"""Made of report.json, with the seconds that something took in their text; of data only the seconds are left aside."""

_HOW = "second|^rows_kept$"
"""Names of what says how a result came about, and not what it is."""


@dataclass(frozen=True)
class Command:
    """A command line that writes into `out` and `cache`, folders of the same names every time.

    resumes: whether it goes on by resume=true, once there is a run. keeps_cache: that of the commands before it is there.
    """

    name: str
    words: Sequence[str]
    out: Path
    cache: Path
    resumes: bool = False
    keeps_cache: bool = True

    def again(self) -> list[str]:
        """Return the words by which it is run once more."""
        return [*self.words, *["resume=true"] * (self.resumes and (self.out / "config.yaml").is_file())]


def commands(folder: Path) -> list[Command]:
    """Return all commands on small inputs, which are made here; the later ones need what the earlier ones leave."""
    videos, cache, out = folder / "videos", folder / "cache", folder / "out"
    videos.mkdir(parents=True)
    for seed, name in enumerate(["a", "b", "test"]):
        (videos / f"{name}.mp4").write_bytes(X264().encode(_scene(seed), CRF(12)).bitstream)
    data = ["data=folder", f"data.root={videos}", "data.test=[test.mp4]", "data.frames=4", "data.stride=1", "data.size=[64,96]"]
    data += ["data.num_workers=0", f"data.cache={cache}"]
    ladder = ["data.rungs=[16,26,36,46]", "data.maps_per_clip=4", "data.groups=1", "data.cache_workers=1"]
    steps = ["trainer.max_steps=9", "trainer.checkpoint_every=2", "trainer.accelerator=cpu", "logger.every_n_steps=1"]
    steps += ["logger.pictures_every=1000", "surrogate.width=8"]
    surrogate, control = folder / "made" / "surrogate.safetensors", folder / "made" / "control.onnx"
    stage_2 = ["recipe=surrogate", "task=reconstruction", f"surrogate={surrogate}", "control.width=8"]
    judge = ["task=reconstruction", *data, "bootstrap=30", "workers=1", "num_targets=3"]
    few = [word for word in data if not word.startswith(("data.test", "data.num_workers"))]
    video, learned = str(videos / "test.mp4"), ["--checkpoint", str(control)]

    def train(name: str, *words: str, **how: bool) -> Command:
        stage, *rest = words
        return Command(name, ["train", stage, *data, *ladder, f"out={out}", *rest], out, cache, **how)

    def command(name: str, *words: str) -> Command:
        return Command(name, [*words, f"out={out}"], out, cache, keeps_cache=False)

    return [
        train("cache", "surrogate", "cache_only=true", "data.crops_per_clip=2", keeps_cache=False),
        train("train surrogate", "surrogate", *steps, resumes=True),
        train("train control", "control", *steps[:-1], *stage_2, resumes=True),
        command("evaluate control", "evaluate", "control", *judge, f"checkpoint={control}"),
        command("benchmark", "evaluate", "benchmark", "task=reconstruction", *few, "levels=[20,30,40]", "bootstrap=30"),
        Command("encode", ["encode", video, str(out / "coded.mp4"), "--target-kbps", "150", *learned], out, cache),
        Command(
            "export",
            ["export", video, "--target-kbps", "150", "--format", "npz", "--out", str(out / "map.npz"), *learned],
            out,
            cache,
        ),
    ]


def _scene(seed: int) -> Clip:
    return SyntheticClips(num_clips=1, frames=24, size=(64, 96), seed=seed)[0].clip


class Runner:
    """Starts commands in processes that have imported everything, and kills some."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._context = multiprocessing.get_context("forkserver")
        forkserver._forkserver._stop()  # one that was begun before has not imported these
        modules = ["dvcc.control.training", "dvcc.surrogate.training", "dvcc.evaluation.control.run", __name__]
        self._context.set_forkserver_preload([*modules, "dvcc.evaluation.benchmark.run", "dvcc.encoding.file"])

    def last_line(self) -> str:
        """Return what the last command said at its end."""
        return (self._log.read_text().splitlines() or [""])[-1]

    def run(self, words: Sequence[str], kill_after: float | None = None) -> tuple[int | None, float]:
        """Return the exit status, None where it was killed after so many seconds, and the seconds that it took."""
        process = self._context.Process(target=_run, args=(list(words), self._log))
        began = time.monotonic()
        process.start()
        process.join(_TIMEOUT if kill_after is None else kill_after)
        seconds = time.monotonic() - began
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            if kill_after is None:
                raise DvccError(f"{' '.join(words)} took more than {_TIMEOUT} s")
            return None, seconds
        return process.exitcode, seconds


def _run(words: list[str], log: Path) -> None:
    import torch

    from dvcc.cli import main

    torch.set_num_threads(1)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    sys.exit(main(words))


@dataclass
class Outcome:
    """What became of the kills of one command; wrong: one sentence for each thing that was."""

    command: Command
    seconds: float
    kills: int = 0
    untouched: int = 0  # runs that had ended before
    wrong: list[str] = field(default_factory=list)


def try_command(command: Command, runner: Runner, *, kills: int, seed: int) -> Outcome:
    """Kill a command so many times, each time in fresh folders, and compare."""
    kept = command.cache.with_name("cache-before")
    shutil.rmtree(kept, ignore_errors=True)
    if command.keeps_cache and command.cache.is_dir():
        shutil.copytree(command.cache, kept)
    for _ in range(2):  # the first of all imports for the others
        _fresh(command, kept)
        status, seconds = runner.run(command.words)
        if status != 0:
            raise DvccError(f"{command.name} ended with {status}: {runner.last_line()}")
    whole, outcome = files_of(command), Outcome(command, seconds)
    for attempt in range(_MOST_ATTEMPTS * kills):
        if outcome.kills == kills:
            break
        chance = random.Random(f"{seed} {command.name} {attempt}")
        _fresh(command, kept)
        status, took = runner.run(command.words, kill_after=chance.uniform(0, seconds))
        if status is not None:
            seconds, outcome.untouched = min(seconds, took), outcome.untouched + 1
            continue
        outcome.kills += 1
        for path, digest in files_of(command).items():
            if path.name in _GROWING:
                outcome.wrong += [f"{path} is cut off"] * (not is_whole(path))
            elif path not in whole:
                outcome.wrong.append(f"{path} is of no undisturbed run")
            elif digest != whole[path]:
                outcome.wrong.append(f"{path} is half-written")
        status, _ = runner.run(command.again())
        if status != 0:
            outcome.wrong.append(f"run again, it ended with {status}")
        after = files_of(command)
        outcome.wrong += [f"{path} differs" for path in sorted({*after, *whole}) if after.get(path) != whole.get(path)]
    return outcome


def _fresh(command: Command, kept: Path) -> None:
    for folder in (command.out, command.cache):
        shutil.rmtree(folder, ignore_errors=True)
    command.out.mkdir()
    if kept.is_dir():
        shutil.copytree(kept, command.cache)


def files_of(command: Command) -> dict[Path, str]:
    """Digests of all files under final names; temporary ones begin with a dot."""
    paths = [path for folder in (command.out, command.cache) for path in folder.rglob("*")]
    return {path: _digest(path) for path in paths if path.is_file() and not path.name.startswith(".") and path.name not in _PAGES}


def _digest(path: Path) -> str:
    """SHA-256 of what a file holds, without the seconds that it may say."""
    data = path.read_bytes()
    if path.suffix == ".json":
        data = repr(_timeless(json.loads(data))).encode()
    elif path.suffix == ".pt" or (path.suffix == ".ckpt" and is_whole(path)):
        import torch  # bytes of equal contents differ by which of its objects are one

        data = repr(_timeless(torch.load(path, weights_only=True))).encode()
    elif path.name == "rows.csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        data = repr([_timeless(row) for row in rows]).encode()
    return hashlib.sha256(data).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if not re.search(_HOW, str(name))}
    if hasattr(value, "numpy"):  # whose repr leaves out most of it
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    return [_timeless(item) for item in value] if isinstance(value, (list, tuple)) else value


def is_whole(path: Path) -> bool:
    if path.suffix == ".ckpt":
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        except zipfile.BadZipFile:
            return False
    return True  # a log may lack the end of its last row


def report(outcomes: Sequence[Outcome], *, seed: int) -> str:
    """Return the table, and what was wrong."""
    head = ["command", "seconds, undisturbed", "killed", "ended before", "lost or half-written"]
    rows = [[o.command.name, f"{o.seconds:.1f}", str(o.kills), str(o.untouched), str(len(o.wrong))] for o in outcomes]
    lines = [f"- {o.command.name}: {sentence}" for o in outcomes for sentence in o.wrong]
    return "\n".join([markdown_table(head, rows), *lines, f"seed {seed}"])


def main(words: Sequence[str] | None = None) -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names, with commas between them")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        print(report(survive(Path(name), kills=arguments.kills, seed=arguments.seed, only=arguments.only), seed=arguments.seed))


def survive(folder: Path, *, kills: int, seed: int, only: str | None = None) -> list[Outcome]:
    """Try the commands, or those named in `only`, in order."""
    runner, outcomes, made = Runner(folder / "log.txt"), list[Outcome](), folder / "made"
    made.mkdir()
    for command in commands(folder):
        if only is None or command.name in only.split(","):
            outcomes.append(try_command(command, runner, kills=kills, seed=seed))
            print(report(outcomes[-1:], seed=seed), file=sys.stderr, flush=True)
        elif command.resumes:  # what it makes the others need
            _fresh(command, folder / "none")
            status, _ = runner.run(command.words)
            if status != 0:
                raise DvccError(f"{command.name} ended with {status}: {runner.last_line()}")
        for path in command.out.glob("*"):
            if path.suffix in (".safetensors", ".onnx"):
                shutil.copy(path, made)
    return outcomes


if __name__ == "__main__":
    sys.exit(guarded(main))
