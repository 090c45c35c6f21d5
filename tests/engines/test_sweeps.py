"""The sweeps that engines run: to the last bit the same rows and files by one process, by four, and by Ray."""

from __future__ import annotations

import csv
import hashlib
import importlib.util

import pytest

from dvcc.control import training as control
from dvcc.evaluation.benchmark import run as benchmark
from dvcc.evaluation.control import run as evaluation
from dvcc.surrogate import training as surrogate
from tests.evaluation.benchmarks import configure as configure_benchmark
from tests.evaluation.benchmarks import write_pictures
from tests.evaluation.test_control import configure as configure_evaluation
from tests.training.conftest import configure

pytestmark = pytest.mark.slow

no_ray = importlib.util.find_spec("ray") is None
ENGINES = [
    ("processes", 4),
    pytest.param("ray", 2, marks=pytest.mark.skipif(no_ray, reason="needs the extra ray")),
]


def digests(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(out):
    rows = list(csv.DictReader((out / "rows.csv").read_text().splitlines()))
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def ladders_and_verdicts(tiny, weights, folder, engine, workers):
    """What both trainings keep: encodes, decoded samples, judged ladders."""
    words = ["data.crops_per_clip=3", "task=reconstruction", f"data.cache={folder / 'cache'}", f"data.cache_workers={workers}"]
    words += ["cache_only=true", f"engine={engine}"]
    surrogate.run(configure("surrogate", tiny, folder / "run", *words, "surrogate.width=8"))
    control.run(configure("control", tiny, folder / "run", *words, f"surrogate={weights}"))
    return digests(folder / "cache")


def benchmark_rows(folder, engine, workers):
    pictures = write_pictures(folder.parent / "pictures")
    words = [f"data.root={pictures}", f"data.cache={folder / 'rows'}", f"out={folder / 'benchmark'}", f"engine={engine}"]
    benchmark.run(configure_benchmark("codec=jpeg", "levels=[90,20]", "networks=[psnr,ssim]", f"workers={workers}", *words))
    return rows_of(folder / "benchmark")


def evaluation_rows(tiny, folder, engine, workers):
    words = [word for word in tiny if not word.startswith(("data.test", "data.cache="))]
    words += ["data.test=[a.mp4,b.mp4,test.mp4]", "controllers=[abr2,crf]", "targets_kbps=[150,300]", "stability=0"]
    words += [f"data.cache={folder / 'verdicts'}", f"engine={engine}"]
    evaluation.run(configure_evaluation(words, folder / "evaluation", f"workers={workers}"))
    return rows_of(folder / "evaluation")


def all_of(tiny, weights, folder, engine, workers):
    folder.mkdir(parents=True)
    kept = ladders_and_verdicts(tiny, weights, folder, engine, workers)
    return kept, benchmark_rows(folder, engine, workers), evaluation_rows(tiny, folder, engine, workers)


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    """Those of a surrogate after a step."""
    return surrogate.run(configure("surrogate", tiny, tmp_path_factory.mktemp("surrogate"), "trainer.max_steps=1"))


@pytest.fixture(scope="module")
def by_one(tiny, weights, tmp_path_factory):
    return all_of(tiny, weights, tmp_path_factory.mktemp("one") / "one", "processes", 1)


@pytest.mark.parametrize("engine, workers", ENGINES)
def test_it_does_not_matter_who_measures(by_one, tiny, weights, tmp_path, engine, workers):
    kept, benchmarked, evaluated = all_of(tiny, weights, tmp_path / "more", engine, workers)
    assert kept == by_one[0] and len(kept) > 20
    assert benchmarked == by_one[1] and len(benchmarked) == 4 * 4 * 2
    assert evaluated == by_one[2] and len(evaluated) >= 3 * 2 * 2
