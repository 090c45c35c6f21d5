"""Names of the files of a run, and the refusal to begin among them; read before torch is imported."""

from __future__ import annotations

import os
from pathlib import Path

from dvcc.errors import ConfigError

CHECKPOINT, CONFIG, METRICS, VERSIONS = "last.ckpt", "config.yaml", "metrics.csv", "versions.txt"

FILES = (CONFIG, VERSIONS, CHECKPOINT, METRICS, "wandb.txt", "surrogate.safetensors", "control.safetensors")
FOLDERS = ("pictures", "wandb")

_RANKS = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Variables that say which process of a distributed run this is: set by torchrun, SLURM, or LSF."""
_PLACES = ("NODE_RANK", "LOCAL_RANK")
"""Without these: which machine, and which of its processes, as Lightning starts them itself."""


def first_process() -> bool:
    """Whether this process is the only one of its run, or the first of a distributed one: the one that writes files."""
    ranks = next(([os.environ[name]] for name in _RANKS if name in os.environ), [os.environ.get(name, "0") for name in _PLACES])
    return set(ranks) == {"0"}


def refuse_run(out: Path) -> None:
    """Raise `ConfigError` when `out` holds a run.

    Not in the later processes of a distributed run, whose first has begun there.
    """
    there = [name for name in FILES if (out / name).exists()]
    if there and first_process():
        raise ConfigError(
            f"{out} holds a run already ({', '.join(there)}): go on with it by resume=true, remove it by overwrite=true, "
            f"or write elsewhere with out=DIR"
        )
