"""What every training run shares: data, trainer, loggers, checkpoints that resume, weights at the end."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dvcc._files import write_atomic
from dvcc.errors import ConfigError, DvccError
from dvcc.training.batches import SizedSamples
from dvcc.training.files import CHECKPOINT, CONFIG, METRICS, VERSIONS, first_process
from dvcc.training.folder import (
    AtomicCheckpoints,
    Checkpoints,
    read_checkpoint,
    remove_run,
)
from dvcc.training.loader import ClipModule
from dvcc.training.metrics import CSVLog, LogMetrics, MetricsLog
from dvcc.training.plan import Plan
from dvcc.training.progress import TrainingBar
from dvcc.training.record import versions
from dvcc.training.steps import Steps
from dvcc.training.workers import loader_workers


def fit(module: L.LightningModule, samples: SizedSamples, plan: Plan, *, callbacks: list[Callback]) -> None:
    """Run Lightning's Trainer for `plan.max_steps`, from `out/last.ckpt` if `resume` (see `check_out`).

    A run that has its steps already trains nothing and takes its weights from there. Raises `CheckpointError` for a checkpoint
    that is damaged or of another model, `DvccError` when the loss is not finite or the disk is full.
    """
    out = plan.out
    quiet_lightning()
    torch.set_flush_denormal(True)  # numbers below 1e-38 change nothing and make CPU convolutions ten times slower
    stored = read_checkpoint(out, module) if plan.resume else None
    start = stored["global_step"] if stored else 0
    if stored and start == plan.max_steps:
        print(f"the run in {out} has all of its {start} steps: nothing is trained, and its weights are written again")
        module.on_load_checkpoint(stored)
        module.load_state_dict(stored["state_dict"])
        return
    try:
        trainer = L.Trainer(
            **plan.lightning,
            max_steps=plan.max_steps,
            max_epochs=-1,  # the steps decide; an epoch is the whole run
            logger=False,
            callbacks=[
                TrainingBar(),
                Steps(learning_rate=plan.learning_rate, max_steps=plan.max_steps, seed=plan.seed),
                *callbacks,
                LogMetrics(lambda: build_log(plan, start=start), every=min(plan.log_every, plan.max_steps)),
                Checkpoints(out, every=plan.checkpoint_every),  # last: what the others did is done by then
            ],
            plugins=[AtomicCheckpoints()],
            default_root_dir=out,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"Lightning refuses these trainer settings ({reason}): change the trainer.* that it names") from error
    if first_process():
        if not plan.resume:
            remove_run(out)
        write_atomic(out / CONFIG, yaml.safe_dump(plan.lasting_settings, sort_keys=False, allow_unicode=True))
        write_atomic(out / VERSIONS, "\n".join(f"{k}: {v}" for k, v in versions().items()))
    module_data = ClipModule(
        samples,
        batch_size=plan.batch_size,
        steps=plan.max_steps,
        num_workers=loader_workers(plan.num_workers),
        seed=plan.seed,
    )
    try:
        trainer.fit(module, module_data, ckpt_path=out / CHECKPOINT if stored else None, weights_only=True)
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt(_kept(out, trainer.global_step)) from stop
    if trainer.global_step < plan.max_steps:
        raise DvccError(f"the run stopped at step {trainer.global_step} of {plan.max_steps}: go on with resume=true")


def _kept(out: Path, step: int) -> str:
    """Return what is left of a run that was stopped at a step, and how to go on."""
    if not (out / CHECKPOINT).is_file():
        return f"the run in {out} stopped at step {step}, before its first checkpoint: begin again with overwrite=true"
    return f"the run stopped at step {step}, and {out / CHECKPOINT} is kept: the same command with resume=true goes on from there"


def quiet_lightning() -> None:
    """Silence what a user can do nothing about: advertisements, and warnings of things meant to be as they are."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",  # Lightning 2.6 on torch 2.14
        ".*does not have many workers.*",  # samples are cached: see data.num_workers
        ".*your dataloader is not resumable.*",  # `StepSampler` starts at the step
        ".*in eval mode at the start of training.*",  # the task network is a fixed judge
    ):
        warnings.filterwarnings("ignore", message=message)


def build_log(plan: Plan, *, start: int) -> MetricsLog:
    """CSV in the run's folder, or Weights & Biases: offline when no API key is at hand.

    start: the step at which the run begins or goes on. A resumed run keeps its rows below that step, or its name at W&B.
    """
    if plan.log == "wandb":
        from lightning.pytorch.loggers import WandbLogger  # where it is asked for, and nowhere else

        offline = not (os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").exists())
        note = plan.out / "wandb.txt"
        if not (plan.resume and note.is_file()):
            write_atomic(note, secrets.token_hex(4))
        run: dict[str, Any] = {"id": note.read_text(), "resume": "allow", "config": dict(plan.settings)}
        return WandbLogger(project=plan.project, save_dir=plan.out, offline=offline, **run)
    return CSVLog(plan.out / METRICS, start=start)


def check_finite(loss: torch.Tensor, *, step: int, terms: Mapping[str, torch.Tensor]) -> None:
    """Raise `DvccError` as soon as a loss is NaN or infinite, before it reaches the weights."""
    if not torch.isfinite(loss).all():
        values = ", ".join(f"{name}={float(value.detach().float().mean()):.4g}" for name, value in terms.items())
        raise DvccError(
            f"the loss is not finite at step {step} ({values}): lower learning_rate, or resume from the last checkpoint"
        )


def check_finite_gradients(module: torch.nn.Module, *, step: int) -> None:
    """Raise `DvccError` before an optimiser step that would write NaN or infinity into the weights."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise DvccError(f"the gradient of {name} is not finite at step {step}: lower learning_rate, or resume a checkpoint")
