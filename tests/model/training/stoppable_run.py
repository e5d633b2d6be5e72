"""A training run that reports each step on stdout and waits for a line on stdin before it goes on.

Usage: stoppable_run.py OUT SAVE_EVERY_S
"""

import sys
from pathlib import Path

import torch

from model.training.run_config import TrainCallbacks
from model.training.train import train
from tests.model.toys import toy_config, toy_dataset, toy_recipe, toy_spec


def _report(step: int, _total: int) -> None:
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(
        toy_dataset(),
        toy_config(),
        toy_recipe(),
        toy_spec(),
        Path(sys.argv[1]),
        device=torch.device("cpu"),
        callbacks=TrainCallbacks(on_step=_report),
        save_every_s=float(sys.argv[2]),
    )
