"""What coding costs a network: every picture or clip of a data set, coded at many levels, judged by any number of networks.

The reference is what a network says of the uncoded pictures ("relative"), and the data set's labels where there are any
("absolute"). Every encode is made once and shared by all networks; what has been measured is kept, so that an interrupted sweep
goes on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from dvcc._cache import Cache
from dvcc._storage import open_folder, write_results
from dvcc.codecs import CRF, JPEG, PLAIN, X264, Chain, Codec, Quality, Quantizer, Rate
from dvcc.config import FIRST_LEVELS, LEVELS, RATES, BenchmarkConfig, BenchmarkData
from dvcc.config.build import build_codec
from dvcc.config.parse import to_dict
from dvcc.datasets import DataSet, build_dataset
from dvcc.errors import ConfigError
from dvcc.evaluation.benchmark.measure import Clock, Measuring, measure
from dvcc.evaluation.benchmark.networks import build_networks, check_networks
from dvcc.evaluation.benchmark.pictures import chosen_example
from dvcc.evaluation.benchmark.report import Result, write_report
from dvcc.evaluation.benchmark.rows import NOISE, RowStore
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.evaluation.labels import label_classes, labels_apply
from dvcc.media.protocols import PAPER, Protocol
from dvcc.networks.sources import assets_folder
from dvcc.tasks.judging import pooled, refuse_silence

_OPTIONS = {
    "corpus": ("frames", "stride", "per_video", "split"),
    "folder": ("frames", "stride", "per_video", "shots"),
    "cityscapes_sequence": ("frames", "stride"),
    "camvid_sequence": ("frames", "stride"),
}


def run(config: BenchmarkConfig) -> str:
    """Sweep as configured, write the report, return its table and path."""
    if config.preset is not None:
        open_folder(config.out).check_writable()
        from dvcc.evaluation.benchmark.paper.run import run_paper

        root = assets_folder() if config.data.root == "assets" else Path(config.data.root)
        measure_all = partial(run_paper, root, cache=config.data.cache, bootstrap=config.bootstrap, seed=config.seed)
        return write_results(config.out, lambda out: measure_all(out=out))
    build_sweep(config)  # raises for what the codec does not have, before a network is loaded
    if not Path(config.data.root).exists():
        raise ConfigError(f"{config.data.root} does not exist: set data.root to the pictures, videos or data set")
    check_networks(config.task.name, config.words(), config.weights)
    open_folder(config.out).check_writable()
    Cache(config.data.cache).check_writable()
    measuring = _measuring(config)
    examples, networks = measuring.examples, measuring.networks
    clock = Clock()
    try:
        rows, skipped, kept = measure(measuring, clock, partial(_measuring, config), engine=config.engine, workers=config.workers)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"what was measured is kept in {config.data.cache}, and the same command goes on from there"
        ) from stop
    for name, task in networks.items():
        uncoded = [row.measured.relative[task.metric_name] for row in rows if row.network == name and row.level == NOISE]
        refuse_silence(task, pooled(task.metric(), uncoded))
    result = Result(
        sweep=measuring.sweep,
        networks=networks,
        given=dict(zip(networks, config.words(), strict=True)),
        examples=examples,
        labelled=measuring.labelled,
        rows=rows,
        skipped=skipped,
        kept=kept,
        seconds=clock.seconds(),
    )
    write = partial(
        write_report,
        result=result,
        task_name=config.task.name,
        drawn=chosen_example(examples, config.example, rows),
        audit_level=config.audit_level,
        lose_at_most=config.lose_at_most,
        bootstrap=config.bootstrap,
        seed=config.seed,
        settings=to_dict(config),
    )
    return write_results(config.out, write)


def _measuring(config: BenchmarkConfig) -> Measuring:
    """Return the configured examples, networks and sweep."""
    examples, words = build_examples(config.data), config.words()
    if config.example is not None:
        chosen_example(examples, config.example, [])
    weights = {config.task.model: config.task.weights, **config.weights}
    networks = build_networks(config.task.name, words, weights, config.task.options())
    labelled = {
        name: label_classes(examples, task) for name, task in networks.items() if labels_apply(examples, config.task.name, task)
    }
    return Measuring(examples, build_sweep(config), networks, RowStore(config.data.cache), labelled, config.skip_bad)


def build_examples(data: BenchmarkData) -> DataSet:
    """Return the configured data set. Raises `ConfigError` when its files are not where its layout has them."""
    options = {name: getattr(data, name) for name in ("frames", "stride", "shots", "split")} | {"per_video": data.clips_per_video}
    examples = build_dataset(data.name, data.root, **{name: options[name] for name in _OPTIONS.get(data.name, ())})
    return examples if data.max_clips is None else examples.spread(data.max_clips)


def build_sweep(config: BenchmarkConfig) -> Sweep:
    """Return the codec, its levels and the input protocol. Raises `ConfigError` for what the codec does not have."""
    rate = config.rate or RATES[config.codec.name][0]
    codec = _codec(config, rate)
    size = config.data.size
    if config.protocol == "paper":
        if size is not None:
            raise ConfigError("protocol=paper says how pictures are scaled: leave data.size out")
        if config.task.name not in PAPER:
            raise ConfigError(f"the paper has no protocol for {config.task.name}: leave protocol=none")
        protocol = PAPER[config.task.name]
    else:
        protocol = Protocol(resize=(size[0], size[1]) if size else None)
    if config.pixel_format == "paper":
        protocol = replace(protocol, rgb=True)
    levels = tuple(sorted(config.levels or LEVELS[rate]))
    if config.audit_level is not None and config.audit_level not in levels:
        raise ConfigError(
            f"audit_level={config.audit_level:g} is none of the levels {', '.join(f'{level:g}' for level in levels)}"
        )
    if config.first_codec is not None:
        codec = Chain(*_first(config.first_codec, config.first_level), codec)
    return Sweep(codec, rate, levels, protocol)


def _first(name: str, level: float | None) -> tuple[Codec, Rate]:
    """Return the first of two codecs, with its defaults, and its one level."""
    level = FIRST_LEVELS[name] if level is None else level
    if name == "jpeg":
        return JPEG(), Quality(int(level))
    if name == "x264":
        return X264(), CRF(level)
    return PLAIN[name](), CRF(level) if name == "x265" else Quantizer(int(level))


def _codec(config: BenchmarkConfig, rate: str) -> Codec:
    if config.codec.name == "jpeg":
        return JPEG(optimised=config.jpeg.optimised, progressive=config.jpeg.progressive)
    if config.codec.name != "x264" or config.pixel_format == "paper":
        pixel_format: Literal["yuv420p", "yuv444p"] = "yuv444p" if config.pixel_format == "paper" else "yuv420p"
        return PLAIN[config.codec.name](preset=config.codec.preset, gop=config.codec.gop, pixel_format=pixel_format)
    if rate == "cqp":
        paper = X264.perspective()
        return replace(build_codec(config.codec), flags=paper.flags, params=paper.params)
    return build_codec(config.codec)
