"""The log of a run: one row per logged step, in one CSV file also when the run is resumed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from dvcc._files import append_text, write_atomic


class MetricsLog(Protocol):
    """Where metrics go: `CSVLog`, or Lightning's logger for Weights & Biases."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def finalize(self, status: str) -> None: ...


class CSVLog:
    """Appends a row per logged step to the CSV file `path`: `step`, then every metric by name.

    start: rows of this step and later ones are removed first: a resumed run writes them anew.
    """

    def __init__(self, path: Path, *, start: int) -> None:
        self.path, self._columns = path, ["step"]
        if kept := _rows_before(path, start):
            self._columns = list(kept[0])
            self._write(kept)
        else:
            path.unlink(missing_ok=True)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Append one row; a metric that was never logged before becomes a column of its own."""
        row = {"step": step, **metrics}
        new = [name for name in row if name not in self._columns]
        if new or not self.path.exists():
            self._columns += new
            self._write([*_rows_before(self.path, step), row])
        else:
            text = io.StringIO()
            csv.DictWriter(text, self._columns).writerow(row)
            append_text(self.path, text.getvalue())

    def finalize(self, status: str) -> None:
        """Do nothing: every row is in the file as soon as it is logged."""

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path, text.getvalue())


def _rows_before(path: Path, step: int) -> list[dict[str, Any]]:
    """Return the whole rows of a log below `step`; a row that a killed run left half-written is dropped."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values() and row["step"].isdecimal()]
    return [row for row in rows if int(row["step"]) < step]


class LogMetrics(Callback):
    """Logs what a module logged in every `every`-th step.

    Not as a logger of the trainer: that is told of a step after its callbacks have ended, so that a checkpoint could hold a step
    which the log of a killed run lacks.
    """

    def __init__(self, open_log: Callable[[], MetricsLog], *, every: int) -> None:
        self.open_log, self.every = open_log, every

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.metrics = self.open_log()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the row before `Checkpoints` writes its file: it comes later in the list of callbacks."""
        if trainer.global_step % self.every == 0:
            metrics = trainer.callback_metrics
            values = torch.stack([torch.as_tensor(value, device=module.device).double() for value in metrics.values()])
            means = trainer.strategy.reduce(values, reduce_op="mean")  # over the processes of a distributed run: all of them ask
            if trainer.is_global_zero:
                self.metrics.log_metrics(dict(zip(metrics, means.tolist(), strict=True)), trainer.global_step - 1)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.metrics.finalize("success")
