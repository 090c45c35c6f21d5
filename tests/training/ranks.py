"""A training in float64, as one process or as one of several that torchrun starts: STAGE STOP NOTES key=value ...

STOP: step before which the process ends as if it were killed; -1: none. NOTES: folder for the names of the files that each
process writes.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import torch

torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # what the code asks for in single precision, too

from dvcc import _files  # noqa: E402
from dvcc.config.parse import MODULES, parse  # noqa: E402


def main() -> None:
    stage, stop, notes, *words = sys.argv[1:]
    written = Path(notes) / f"{os.environ.get('RANK', 'alone')}.txt"
    whole = _files.write_atomic

    def noted(path, data):
        with written.open("a") as file:
            file.write(f"{path}\n")
        whole(path, data)

    for name in ("_cache", "training.run", "training.folder"):
        importlib.import_module(f"dvcc.{name}").write_atomic = noted
    steps = importlib.import_module("dvcc.training.steps").Steps
    begin = steps.on_train_batch_start

    def begin_or_end(self, trainer, *arguments):
        if trainer.global_step == int(stop):
            os._exit(7)
        begin(self, trainer, *arguments)

    steps.on_train_batch_start = begin_or_end
    config = parse("train", [stage, *words])[1]
    importlib.import_module(MODULES["train", stage]).run(config)


if __name__ == "__main__":
    main()
