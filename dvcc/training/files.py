"""Names of the files of a run, and the refusal to begin among them; read before torch is imported."""

from __future__ import annotations

import os
from pathlib import Path

from dvcc.errors import ConfigError

CHECKPOINT, CONFIG, METRICS, VERSIONS = "last.ckpt", "config.yaml", "metrics.csv", "versions.txt"

FILES = (CONFIG, VERSIONS, CHECKPOINT, METRICS, "wandb.txt", "surrogate.safetensors", "control.safetensors")
FOLDERS = ("pictures", "wandb")

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables that say which process of a distributed run this is."""


def refuse_run(out: Path) -> None:
    """Raise `ConfigError` when `out` holds a run.

    Not in the later processes of a distributed run, whose first has begun there.
    """
    there = [name for name in FILES if (out / name).exists()]
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
    if there and rank == "0":
        raise ConfigError(
            f"{out} holds a run already ({', '.join(there)}): go on with it by resume=true, remove it by overwrite=true, "
            f"or write elsewhere with out=DIR"
        )
