"""How much of a bare training loop's speed is left in ours.

    python benchmarks/training_loop.py [--rounds 5] [--steps 12] [--recipe small]

Bare: the same network, forward, backward, optimizer step, one fixed batch in memory. Ours: everything that a run does
between two evaluations (order, augmentation, mixing, clipping, moving average). Both in turn, several rounds in one
process; then where the time of a step goes. Prints Markdown.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from model.data.dataset import Dataset, ImageSet
from model.network.mixer import MlpMixer, num_parameters
from model.recipe import RECIPES, Recipe
from model.training.optimizers import build_optimizers
from model.training.run import Run
from model.training.run_config import RunConfig
from model.weights.config import MixerConfig

NETWORKS = {
    "28x28 grey, patch 4, C 128, 8 blocks": MixerConfig(28, 4, 128, 8, 64, 512, channels=1, num_classes=10),
    "64x64 colour, patch 8, C 128, 8 blocks": MixerConfig(64, 8, 128, 8, 64, 512, channels=3, num_classes=10),
}


def images_for(config: MixerConfig, count: int) -> Dataset:
    """Noise with labels: what is in the pictures does not change the time they take."""
    generator = np.random.default_rng(0)
    shape = (count, config.image_size, config.image_size, config.channels)
    train = ImageSet(generator.integers(0, 256, shape, dtype=np.uint8), generator.integers(0, 10, count))
    return Dataset(tuple("0123456789"), train, ImageSet(train.pixels[:10], train.labels[:10]), None, "noise")


def bare_loop(config: MixerConfig, recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """One step of the bare loop."""
    model = MlpMixer(config).to(device)
    optimizers = build_optimizers(model, recipe)
    images = images_for(config, recipe.batch_size).train
    pixels = torch.from_numpy(images.pixels).to(device)
    labels = torch.from_numpy(images.labels).to(device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.autocast == "bf16"):
            logits = model(pixels).float()
        functional.cross_entropy(logits, labels).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def images_per_s(step: Callable[[], object], steps: int, batch_size: int, device: torch.device) -> float:
    """Over `steps` steps, the device's queue emptied at both ends."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return steps * batch_size / (time.perf_counter() - started)


def shares(run: Run, steps: int) -> dict[str, float]:
    """Of a step's time, in parts that follow each other: making the batch, the network, all else."""
    spent = {"batch: order, augmentation, mixing": 0.0, "network: forward, backward": 0.0}

    def timed(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object) -> object:
            started = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                spent[name] += time.perf_counter() - started

        return wrapper

    batch, network = spent
    take = run.step
    take.batches.part = timed(batch, take.batches.part)  # type: ignore[method-assign, assignment]
    take._gradients = timed(network, take._gradients)  # type: ignore[method-assign, assignment]
    started = time.perf_counter()
    for _ in range(steps):
        take.take()
    total = time.perf_counter() - started
    spent["the rest: clipping, optimizer, moving average"] = total - sum(spent.values())
    return {name: seconds / total for name, seconds in spent.items()}


def main() -> None:
    """Measure every network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--recipe", choices=list(RECIPES), default="small")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {name}, {platform.machine()}, recipe {arguments.recipe}\n")
    print("| network | precision | bare, images/s | ours, images/s | ratio: median (all) |\n|---|---|---|---|---|")
    profiles = []
    for title, config in NETWORKS.items():
        for autocast in ("off", "bf16"):
            recipe = RECIPES[arguments.recipe].model_copy(update={"autocast": autocast})
            dataset = images_for(config, 40 * recipe.batch_size)
            run = Run(RunConfig(dataset, config, recipe, device=device), Path())
            bare = bare_loop(config, recipe, device)
            bare(), run.step.take()
            pairs = [
                tuple(images_per_s(step, arguments.steps, recipe.batch_size, device) for step in (bare, run.step.take))
                for _ in range(arguments.rounds)
            ]
            profiles.append((title, autocast, shares(run, arguments.steps)))
            ratios = [ours / alone for alone, ours in pairs]
            print(
                f"| {title}, {num_parameters(config):,} parameters | {autocast} "
                f"| {statistics.median(alone for alone, _ in pairs):.0f} "
                f"| {statistics.median(ours for _, ours in pairs):.0f} "
                f"| {statistics.median(ratios):.3f} ({', '.join(f'{ratio:.3f}' for ratio in ratios)}) |",
                flush=True,
            )
    print("\n| network | precision | " + " | ".join(profiles[0][2]) + " |\n|---|---|---|---|---|")
    for title, autocast, parts in profiles:
        print(f"| {title} | {autocast} | " + " | ".join(f"{share:.1%}" for share in parts.values()) + " |")


if __name__ == "__main__":
    main()
