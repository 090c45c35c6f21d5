"""The progress bar of a training."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import Progress

from dvcc.training.bar import progress_bar


class TrainingBar(ProgressBar):
    """Shows the step and the metrics that a module logs with `prog_bar`.

    Lightning's own writes bullets, which a terminal without UTF-8 cannot show, and ends the run over them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: Progress | None = None

    def disable(self) -> None:
        """Show nothing: what Lightning asks of all processes but the first."""
        self._bar = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._bar = progress_bar()
            self._task = self._bar.add_task("training", total=trainer.max_steps, completed=trainer.global_step, note="")
            self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._bar is not None:
            note = ", ".join(f"{name} {float(value):.3g}" for name, value in trainer.progress_bar_metrics.items())
            self._bar.update(self._task, completed=trainer.global_step, note=note)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
