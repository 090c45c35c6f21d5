"""Run a study on what is on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvcc.codecs import Codec, Rate, coded_once
from dvcc.datasets import DataSet, Example, build_dataset
from dvcc.errors import ConfigError, DvccError
from dvcc.evaluation.benchmark.measure import Clock, Measuring, measure
from dvcc.evaluation.benchmark.paper.result import Level, Result, make_curves
from dvcc.evaluation.benchmark.paper.studies import Study
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED, Row, RowStore
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.evaluation.labels import label_classes, labels_apply
from dvcc.tasks import Task, build_task


def find_examples(study: Study, assets: Path) -> DataSet:
    """Return the study's subset. Raises `ConfigError` or `VideoError` where its files are not there."""
    material = study.material
    examples = build_dataset(material.data, assets / material.root, **material.options)
    if study.first is not None:
        examples = coded_before(examples, *study.first)
    return examples.spread(material.count)


def coded_before(data: DataSet, codec: Codec, rate: Rate) -> DataSet:
    """Return the data set as it would be if it had been coded before anybody got it."""

    def of(example: Example) -> Example:
        def read(protocol):  # type: ignore[no-untyped-def]
            clip, labels = example.read(protocol)
            return coded_once(clip, codec, rate), labels

        return Example(example.name, example.group, read, example.source, example.files, example.check)

    return DataSet(data.name, tuple(of(example) for example in data), data.task, data.num_classes, data.class_maps)


def find_networks(study: Study) -> tuple[dict[str, Task], dict[str, str]]:
    """Return the networks whose weights and packages are here, and why the others are not."""
    networks: dict[str, Task] = {}
    missing: dict[str, str] = {}
    for name in study.networks:
        try:
            networks[name] = build_task(study.material.task, model=name).eval()
        except DvccError as error:
            missing[name] = str(error)
    return networks, missing


def run_study(study: Study, assets: Path, store: RowStore, *, bootstrap: int, seed: int) -> Result:
    """Measure what the store does not have.

    Raises `ConfigError` or `VideoError` where the data or all networks of the study are missing.
    """
    examples = find_examples(study, assets)
    networks, missing = find_networks(study)
    if not networks:
        raise ConfigError(next(iter(missing.values())))
    sweep = Sweep(study.codec, study.rate, tuple(sorted(study.levels)), study.material.protocol)
    task = study.material.task
    labelled = {name: label_classes(examples, net) for name, net in networks.items() if labels_apply(examples, task, net)}
    rows = measure(Measuring(examples, sweep, networks, store, labelled, skip_bad=False), Clock()).rows
    levels: tuple[Level, ...] = (UNCODED, NOISE, *sorted(study.levels, reverse=study.rate == "quality"))
    curves, metrics = make_curves(
        rows, networks, task, levels, labelled=labelled, blocks=study.material.blocks, bootstrap=bootstrap, seed=seed
    )
    return Result(
        study,
        levels,
        curves,
        metrics,
        bool(next(iter(networks.values())).metric().higher_is_better),
        _kilobytes(rows),
        len(examples),
        len({row.example if study.material.blocks else row.group for row in rows}),
        missing,
    )


def _kilobytes(rows: list[Row]) -> dict[float | str, float]:
    sizes: dict[float | str, list[float]] = {}
    for row in rows:
        if row.measured.file_bits is not None:
            sizes.setdefault(row.level, []).append(row.measured.file_bits / 8000 / row.num_frames)
    return {level: float(np.mean(values)) for level, values in sizes.items()}
