"""`evaluate.py control`: every rate controller at every target on real encodes, judged by a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dvcc._files import check_writable
from dvcc.codecs import ABR
from dvcc.config import EvaluateControlConfig
from dvcc.config.parse import to_dict
from dvcc.errors import ConfigError
from dvcc.evaluation.control.measure import Bench, Looked, Measured, spread_targets, swept_rates
from dvcc.evaluation.control.processes import Processes, opened
from dvcc.evaluation.control.report import write_report
from dvcc.evaluation.control.summary import figures_of, seed_spread, summarise, summarise_labels
from dvcc.evaluation.statistics import or_none
from dvcc.tasks.judging import pooled, refuse_silence
from dvcc.training.record import versions


def run(config: EvaluateControlConfig) -> str:
    """Evaluate as configured, write the report, return its table and path."""
    bench = Bench(config)
    check_writable(config.out)
    with opened(bench) as processes:
        everything = range(len(bench.tests.names))
        looks = processes.run(Bench.look, everything, title="looking at uncoded clips")
        stable = _stable(bench, looks)
        targets_bpp = config.targets_bpp or ([] if config.targets_kbps else _found_targets(processes, stable, bench))
        per_clip = processes.run(Bench.measure, stable, targets_bpp, title="encoding and judging")
        measured = [row for rows in per_clip for row in rows]
        if not any(row.status == "ok" for row, _, _ in measured):
            name, least = bench.tests.names[stable[0]], bench.least_kbps(stable[0])
            raise ConfigError(f"no target is within reach: {name.video} takes {least:.1f} kbit/s at QP 51; raise the targets")
    report = _report(bench, looks, stable, measured, targets_bpp)
    return write_report(Path(config.out), report, [asdict(row) for row, _, _ in measured], bench, stable)


def _stable(bench: Bench, looks: Sequence[Looked]) -> list[int]:
    """The clips on which the network agrees with itself. Raises `ConfigError` when there is none."""
    metric = bench.task.metric()
    refuse_silence(bench.task, pooled(metric, [look.state for look in looks]))
    stable = [index for index, look in enumerate(looks) if look.agreement >= bench.config.stability]
    if not stable:
        best = max(look.agreement for look in looks)
        raise ConfigError(
            f"{bench.config.task.model} disagrees with itself under +-1 noise on every clip (best agreement {best:.2f} < "
            f"{bench.config.stability}): use another network or larger frames, or lower stability"
        )
    return stable


def _found_targets(processes: Processes, stable: Sequence[int], bench: Bench) -> list[float]:
    some = stable[:: max(1, len(stable) // 4)]
    least = max(processes.run(Bench.least_bpp, some, title="finding the least rate"))
    swept = processes.run(Bench.sweep, some, swept_rates(least), title="finding the rates where the metric moves")
    return spread_targets(swept, bench)


def _report(
    bench: Bench,
    looks: Sequence[Looked],
    stable: Sequence[int],
    measured: Sequence[Measured],
    targets_bpp: Sequence[float],
) -> dict[str, Any]:
    config, task, tests = bench.config, bench.task, bench.tests
    names = [tests.names[index] for index in stable]
    settings: dict[str, Any] = {"clips": names, "baseline": config.baseline, "bootstrap": config.bootstrap, "seed": config.seed}
    summary = summarise(measured, task, **settings)
    runs = {name: control.config.get("run", {}) for name, control in bench.controls.items() if name in bench.controllers}
    learned_from = bench.controls["learned"].config if "learned" in bench.controls else None
    reached = max(row.target_kbps for row, _, _ in measured if row.status == "ok")

    def clips(chosen: Sequence[int]) -> list[dict[str, Any]]:
        listed = []
        for index in chosen:
            name, look = tests.names[index], looks[index]
            figures = {"metric_under_noise": or_none(pooled(task.metric(), [look.noisy]))}
            listed.append({**asdict(name), "agreement_under_noise": look.agreement, "weight": task.weight(look.state)} | figures)
        return listed

    noisy = figures_of(task, [looks[index].noisy for index in stable])
    return {
        "summary": summary,
        "under_noise": {name: or_none(value) for name, value in noisy.items()},
        "seed_spread": seed_spread(summary, runs),
        "labels": summarise_labels(measured, [looks[index].uncoded for index in stable], task, tests, **settings),
        "labels_left_out": tests.notes(config.task.name, task, config.task.model),
        "metric": task.metric_name,
        "beside": list(task.beside),
        "higher_is_better": bool(task.metric().higher_is_better),
        "lost_as": task.lost_as,
        "judge": config.task.model,
        "baseline": config.baseline,
        "trained_for": learned_from and {key: learned_from["run"].get(key) for key in ("task", "data", "codec")},
        "targets_kbps": config.targets_kbps,
        "targets_bits_per_pixel": None if config.targets_kbps else list(targets_bpp),
        "clips": clips(stable),
        "unstable_clips": clips([index for index in range(len(looks)) if index not in stable]),
        "config": to_dict(config),
        "versions": versions(),
        "settings": bench.codec.encode(tests.load(stable[0])[0], ABR(reached)).settings,
    }
