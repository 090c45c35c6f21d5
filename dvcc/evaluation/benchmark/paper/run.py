"""`python evaluate.py benchmark preset=paper`: every study that can run where it is, and one page."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
from rich.console import Console

from dvcc._files import check_writable, make_folder, write_atomic
from dvcc._words import counted
from dvcc.errors import ConfigError, DvccError
from dvcc.evaluation.benchmark.paper.claim import verdict
from dvcc.evaluation.benchmark.paper.claims import CLAIMS
from dvcc.evaluation.benchmark.paper.measuring import find_examples, run_study
from dvcc.evaluation.benchmark.paper.page import page
from dvcc.evaluation.benchmark.paper.result import Result
from dvcc.evaluation.benchmark.paper.strips import draw_street
from dvcc.evaluation.benchmark.paper.studies import STUDIES, Study
from dvcc.evaluation.benchmark.paper.times import Times
from dvcc.evaluation.benchmark.rows import RowStore


def run_paper(assets: Path, *, out: Path, cache: str, bootstrap: int, seed: int, studies: tuple[Study, ...] = STUDIES) -> str:
    """Measure what is not in the cache, and write `out`/claims.md with its figures in `out`/claims.

    assets: the folder of labelled pictures and videos. Returns what a terminal shows. Raises `ConfigError` where no study can
    run, and `DvccError`, before anything is measured, for a folder that cannot be written to.
    """
    if not assets.is_dir():
        raise ConfigError(
            f"{assets} does not exist: set data.root, or DVCC_ASSETS, to the folder of labelled pictures and videos"
        )
    check_writable(out)
    store = RowStore(cache)
    store.entries.check_writable()
    left_out = _not_here(studies, assets)
    if len(left_out) == len(studies):
        raise ConfigError(f"no study of preset=paper can run with data.root={assets}: {next(iter(left_out.values()))}")
    console, times = Console(), Times(out / "claims" / "times.json")
    make_folder(out / "claims")
    results: dict[str, Result] = {}
    for number, study in enumerate(studies, 1):
        if study.name in left_out:
            continue
        console.print(f"{number} of {len(studies)}: {study.title}", highlight=False, markup=False)
        try:
            with times.of(study.name):
                results[study.name] = run_study(study, assets, store, bootstrap=bootstrap, seed=seed)
        except DvccError as error:
            left_out[study.name] = str(error)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"what was measured is kept in {cache}, and the same command goes on from there") from stop
    if not results:
        raise ConfigError(f"no study of preset=paper can run with data.root={assets}: {next(iter(left_out.values()))}")
    path = out / "claims.md"
    strips = draw_street(out / "claims")
    write_atomic(path, page(results, left_out, times.seconds, _machine(), out / "claims", strips))
    lines = [f"{verdict(claim, claim.findings(results))}: {claim.words} ({claim.place})" for claim in CLAIMS]
    left = [f"left out: {name}: {reason}" for name, reason in left_out.items()]
    return "\n".join([*lines, *left, f"page: {path}"])


def _not_here(studies: tuple[Study, ...], assets: Path) -> dict[str, str]:
    """Why the data of a study cannot be had."""
    reasons = {}
    for study in studies:
        try:
            find_examples(study, assets)
        except DvccError as error:
            reasons[study.name] = str(error)
    return reasons


def _machine() -> str:
    threads = counted(torch.get_num_threads(), "thread", "threads")
    return f"{counted(os.cpu_count() or 1, 'core', 'cores')} ({platform.machine()}), {threads}"
