"""A claim of the paper, its verdict, and the commands that test it with the paper's own networks."""

from __future__ import annotations

from dataclasses import dataclass

from dvcc.evaluation.benchmark.paper.evidence import Evidence, Finding, Test
from dvcc.networks.zoo import PAPER


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper in our words.

    place: where it stands. figure: its number. read_as: what we test. test: of measured studies; None: needs the paper's own
    networks. command: what tests it with them; the word is a key of `COMMANDS`.
    """

    words: str
    place: str
    figure: str
    read_as: str
    test: Test | None
    command: str

    def findings(self, evidence: Evidence) -> list[Finding]:
        """Return what was measured; nothing where the studies were not."""
        if self.test is None:
            return []
        try:
            return self.test(evidence)
        except KeyError:
            return []


def verdict(claim: Claim, findings: list[Finding]) -> str:
    """Return "holds", "does not hold", "holds for K of N", "undecided", or why it was not tested."""
    if not findings:
        return "cannot be tested here" if claim.test is None else "not measured"
    decided = [finding.holds for finding in findings if finding.holds is not None]
    if not decided:
        return "undecided"
    if all(decided):
        return "holds" if len(decided) == len(findings) else f"holds for {len(decided)} of {len(findings)}, others undecided"
    return f"holds for {sum(decided)} of {len(findings)}" if any(decided) else "does not hold"


def _command(task: str, data: str, more: str) -> str:
    names = ",".join(entry.name for entry in PAPER if entry.task == task)
    return f"python evaluate.py benchmark task={task} {data} {more} protocol=paper pixel_format=paper networks=[{names}]"


COMMANDS = {
    "seg-jpeg": _command("segmentation", "data=cityscapes data.root=CITYSCAPES", "codec=jpeg"),
    "seg-h264": _command("segmentation", "data=cityscapes_sequence data.root=CITYSCAPES", "codec=x264"),
    "det-jpeg": _command("detection", "data=coco data.root=COCO", "codec=jpeg"),
    "cls-jpeg": _command("classification", "data=imagenet data.root=IMAGENET", "codec=jpeg"),
    "flow-h264": _command("optical_flow", "data=cityscapes_sequence data.root=CITYSCAPES", "codec=x264"),
}
"""By the word in the last column of the table."""
