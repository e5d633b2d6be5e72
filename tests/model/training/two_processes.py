"""Runs that two processes share, as torchrun starts them: torchrun --nproc-per-node=2 two_processes.py OUT before|after

before: a whole run, one of a handful of pictures, one of views that repeat, one whose loss is not finite, and one in
which both processes kill themselves halfway. after: the killed run goes on.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from model.data.dataset import Dataset
from model.errors import TrainingError, TrainingStopped
from model.recipe import Recipe
from model.training.processes import Processes, exit_without_teardown, joined
from model.training.run_config import TrainCallbacks
from model.training.stored_logits import StoredLogits, key_of
from model.training.teacher import Teacher
from model.training.train import train
from tests.model.toys import toy_config, toy_images, toy_recipe, toy_spec

LABELS = ("light below", "light above")
KILLED_AT, SAVED_AT = 27, 25  # several processes save at every 25th step, where it is time to
DATASET = Dataset(LABELS, toy_images(199, 1), toy_images(101, 2), None, "shared")
HANDFUL = Dataset(LABELS, toy_images(7, 1), toy_images(1, 2), None, "handful")
RECIPE = toy_recipe(
    epochs=2,
    batch_size=7,  # 28 batches of 7 and one of 3
    accumulate=2,
    optimizer="sgd",
    learning_rate=0.1,
    mixup=0.5,
    cutmix=0.5,
    randaugment_layers=1,
    sam_rho=0.05,
    distil_weight=0.5,
)
VIEWED_RECIPE = RECIPE.model_copy(update={"epochs": 3, "views": 1})
HANDFUL_RECIPE = toy_recipe(epochs=3, batch_size=5, warmup_epochs=0.0, optimizer="sgd")  # the second batch has 2
TEACHER = Teacher(lambda pixels: pixels.float().mean((2, 3)).reshape(-1, 2, 4).mean(2) / 64, "halves")


def run(
    out: Path,
    dataset: Dataset = DATASET,
    recipe: Recipe = RECIPE,
    processes: Processes | None = None,
    callbacks: TrainCallbacks | None = None,
    lessons: StoredLogits | None = None,
) -> None:
    train(
        dataset,
        toy_config(),
        recipe,
        toy_spec(),
        out,
        teacher=TEACHER,
        lessons=lessons,
        device=torch.device("cpu"),
        processes=processes,
        callbacks=callbacks,
        save_every_s=0,
    )


def run_viewed(out: Path, processes: Processes | None = None) -> None:
    key = key_of(VIEWED_RECIPE, TEACHER.name, DATASET.fingerprint)
    run(out, DATASET, VIEWED_RECIPE, processes, lessons=StoredLogits(out, key, len(DATASET.train), 2))


def _die(step: int, _total: int) -> None:
    if step == KILLED_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _main(out: Path, when: str) -> None:
    with joined() as (processes, _):
        if when == "after":
            run(out / "killed", processes=processes)
            return
        run(out / "whole", processes=processes)
        run(out / "handful", HANDFUL, HANDFUL_RECIPE, processes)
        run_viewed(out / "viewed", processes)
        try:
            ruinous = HANDFUL_RECIPE.model_copy(update={"learning_rate": 1e30})
            run(out / "ruined", HANDFUL, ruinous, processes)
        except TrainingError as error:
            (out / f"error-{processes.rank}.txt").write_text(str(error))
        try:
            second_stops = TrainCallbacks(should_stop=lambda: processes.rank == 1)
            run(out / "stopped", processes=processes, callbacks=second_stops)
        except TrainingStopped as stopped:
            (out / f"stopped-{processes.rank}.txt").write_text(str(stopped))
        run(out / "killed", processes=processes, callbacks=TrainCallbacks(on_step=_die))


if __name__ == "__main__":
    torch.set_num_threads(1)
    _main(Path(sys.argv[1]), sys.argv[2])
    exit_without_teardown()
