"""The one page of the paper's benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dvcc._words import counted
from dvcc.evaluation.benchmark.paper.agreement import agreement
from dvcc.evaluation.benchmark.paper.claim import COMMANDS, verdict
from dvcc.evaluation.benchmark.paper.claims import CLAIMS
from dvcc.evaluation.benchmark.paper.evidence import Evidence
from dvcc.evaluation.benchmark.paper.result import Level, Result, figure
from dvcc.evaluation.benchmark.paper.strips import STREET
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED
from dvcc.evaluation.statistics import interval95, or_none
from dvcc.visuals import Point, panels

_LABELS = {"quality": "JPEG quality", "cqp": "QP"}


def page(
    results: Evidence,
    left_out: Mapping[str, str],
    seconds: Mapping[str, Sequence[float]],
    machine: str,
    folder: Path,
    strips: Sequence[str],
) -> str:
    """Return the page, and draw its figures into `folder`, which the page names beside itself.

    strips: pictures in that folder. left_out: why a study was not measured. seconds: of the processor and by the clock, by study.
    """
    parts = [_HEAD, _claims(results), _agreements(results), _formats(results), _twice(results)]
    parts += [_study(result, folder) for result in results.values() if len(result.networks) > 1]
    if strips:
        pictures = "\n\n".join(f"![{path}]({folder.name}/{path})" for path in strips)
        parts.append(f"## What the networks see\n\n{STREET}, whose licence permits it to be shown.\n\n{pictures}")
    parts.append(_times(results, left_out, seconds, machine))
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = """# What coding costs networks: the paper's claims, measured here

`python evaluate.py benchmark preset=paper` writes this page. It repeats Reich et al., "A Perspective on Deep Vision
Performance with Standard Image and Video Codecs" (2024), on the networks and labelled pictures that can be had without
downloads. "Relative" is against a network's own answer on the uncoded pictures, "absolute" against the labels. Brackets are
95 % intervals over pictures (of video: over clips; those of one drive, and CamVid's pictures, are not independent, so that
their intervals are too narrow). H.264 is the paper's command, at a constant QP and in 4:4:4; JPEG is libjpeg's in 4:2:0. The
subsets are small: what an interval does not exclude is not settled. Where the row of +-1 noise is below a bound, the network
cannot reach it under any codec."""


def _claims(results: Evidence) -> str:
    head = ["", "claim", "place", "paper", "read as", "measured", "verdict", "with the paper's networks"]
    body = []
    counts: dict[str, int] = {}
    for number, claim in enumerate(CLAIMS, 1):
        findings = claim.findings(results)
        said = verdict(claim, findings)
        kind = "holds for some" if said.startswith("holds for") else said
        counts[kind] = counts.get(kind, 0) + 1
        measured = "; ".join(f"{finding.subject} {finding.words}" for finding in findings) or "-"
        body.append([str(number), claim.words, claim.place, claim.figure, claim.read_as, measured, said, claim.command])
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))
    commands = "\n".join(f"- {name}: `{command}`" for name, command in COMMANDS.items())
    return f"## The claims\n\nOf {len(CLAIMS)}: {words}.\n\n{_table(head, body)}\n\nThe last column:\n\n{commands}"


def _agreements(results: Evidence) -> str:
    head = ["study", "network", "Spearman over levels", "over networks, mean of the levels", "over all pairs"]
    body = []
    for result in results.values():
        found = agreement(result)
        if found is None or result.study.first is not None or len(result.networks) < 2:
            continue
        for i, (name, draws) in enumerate(found.over_levels.items()):
            networks = "fewer than three" if found.over_networks is None else figure(found.over_networks)
            shared = [networks, figure(found.over_all)] if i == 0 else ["", ""]
            body.append([result.study.title if i == 0 else "", name, figure(draws), *shared])
    if not body:
        return ""
    text = """## Relative against absolute

The paper says that the two agree. This is Spearman's rank correlation between the relative figure and what is left of the
absolute one. What is left is its share of the uncoded figure, or of flow the growth of the error. It is taken over the levels of
the codec, over networks at one level, and over all pairs of both."""
    return f"{text}\n\n{_table(head, body)}"


def _formats(results: Evidence) -> str:
    """4:4:4 beside 4:2:0 at equal QP, of the same RGB pictures."""
    head = ["network", "QP", "4:4:4", "4:2:0", "4:2:0 less 4:4:4", "kB a frame, 4:4:4", "4:2:0"]
    body = []
    for name, fine in results.items():
        if not name.endswith("-444") or (coarse := results.get(f"{name[:-4]}-420")) is None:
            continue
        network = fine.networks[0]
        for level in fine.coded:
            one, other = fine.at(network, level), coarse.at(network, level)
            sizes = [f"{result.kilobytes[level]:.1f}" for result in (fine, coarse)]
            metric = fine.metrics[network][0]
            body.append([f"{network}, {metric}", f"{level:g}", figure(one), figure(other), figure(other - one, "+.3f"), *sizes])
    if not body:
        return ""
    text = """## 4:4:4 against 4:2:0

The paper's command, given PNG pictures, codes 4:4:4; cameras, players and the rest of this project have 4:2:0. Relative
figures at equal QP."""
    return f"{text}\n\n{_table(head, body)}"


def _twice(results: Evidence) -> str:
    """Write what a first coding costs and hides."""
    names = ("once", "twice", "hidden")
    if not set(names) <= set(results):
        return ""
    once, twice, hidden = (results[name] for name in names)
    network = once.networks[0]
    head = ["JPEG quality", "coded once", "coded twice", "twice, against the once-coded answers"]
    body = [[f"{level:g}", *[figure(result.at(network, level)) for result in (once, twice, hidden)]] for level in once.coded]
    metric = once.metrics[network][0]
    text = f"""## Coded twice

Most data sets were coded before anybody codes them again. These are {network}, {metric}, {once.examples}
{once.study.material.words}. The first column is JPEG of the frames
as they are. The second is JPEG of frames that x264 coded before (CRF 28), against the answers on the frames as they are. The
third is the same against the answers on the coded frames, which is all that one sees who has nothing else. (The corpus was coded
at CRF 12, too.)"""
    return f"{text}\n\n{_table(head, body)}"


def _study(result: Result, folder: Path) -> str:
    """Write a table of the principal metric, and the figures."""
    study = result.study
    label = _LABELS[study.rate]
    head = [label, "kB a frame", *result.networks]
    body = []
    for level in result.levels:
        if level == UNCODED:
            continue
        size = f"{result.kilobytes[level]:.1f}" if level in result.kilobytes else "-"
        named = "+-1 noise" if level == NOISE else f"{level:g}"
        body.append([named, size, *[figure(result.at(name, level)) for name in result.networks]])
    body = [*body[1:], body[0]]
    metrics = ", ".join(dict.fromkeys(metrics[0] for metrics in result.metrics.values()))
    text = f"## {study.title}\n\n{result.examples} {study.material.words}. {metrics}, relative.\n\n{_table(head, body)}"
    for kind in ("relative", "absolute"):
        if drawn := _draw(result, kind, folder, label):
            text += f"\n\n![{study.title}, {kind}]({folder.name}/{drawn})"
    missing = [f"- {name} is left out: {reason}" for name, reason in result.missing.items()]
    return "\n\n".join([text, *(["\n".join(missing)] if missing else [])])


def _draw(result: Result, kind: str, folder: Path, label: str) -> str | None:
    """Draw one panel for each network with its metrics over the level; None where there are no figures of that kind."""
    figures: dict[str, dict[str, list[Point]]] = {}
    for name, metrics in result.metrics.items():
        if result.has(name, kind):
            figures[name] = {metric: [_point(result, name, level, kind, metric) for level in result.coded] for metric in metrics}
    if not figures:
        return None
    against = "the uncoded answer" if kind == "relative" else "the labels"
    panels(figures, folder / f"{result.study.name}-{kind}.png", x_label=label, y_label=f"against {against}")
    return f"{result.study.name}-{kind}.png"


def _point(result: Result, name: str, level: Level, kind: str, metric: str) -> Point:
    draws = result.at(name, level, kind, metric)
    return float(level), or_none(float(draws[0])), interval95(draws[1:].tolist())


def _times(results: Evidence, left_out: Mapping[str, str], seconds: Mapping[str, Sequence[float]], machine: str) -> str:
    head = ["study", "examples", "networks", "levels", "processor, s", "clock, s"]
    body = []
    for name, result in results.items():
        spent = seconds.get(name, (0.0, 0.0))
        counts = [str(result.examples), str(len(result.networks)), str(len(result.coded))]
        body.append([result.study.title, *counts, f"{spent[0]:.0f}", f"{spent[1]:.0f}"])
    total = [sum(spent[i] for spent in seconds.values()) for i in (0, 1)]
    text = f"""## How long it took

{machine}: {total[0] / 60:.0f} minutes of a processor and {total[1] / 60:.0f} by the clock, over all runs that measured for
this page. The same command goes on from what is there."""
    text += f"\n\n{_table(head, body)}"
    if left_out:
        lines = [f"- {name}: {reason}" for name, reason in left_out.items()]
        text += f"\n\n{counted(len(left_out), 'study was', 'studies were')} left out:\n\n" + "\n".join(lines)
    return text


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Without padding: a cell may be a sentence."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))
