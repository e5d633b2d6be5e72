"""What a step of StackedMuon costs beside torch's own Muon, over the kernels of the default network's blocks.

    python benchmarks/muon_step.py [--rounds 7] [--steps 3]

Both in turn, in one process; prints Markdown. Gradients are noise: an update takes the same time whatever they are.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from model.network.mixer import MlpMixer
from model.training.muon import StackedMuon
from model.weights.config import MixerConfig

DEFAULT = MixerConfig(64, 8, 128, 8, 64, 512, channels=3, num_classes=10)  # what `mixer train` builds


def kernels() -> list[nn.Parameter]:
    """Those that the optimizer `muon` of a recipe moves, with gradients."""
    torch.manual_seed(0)
    found = [parameter for parameter in MlpMixer(DEFAULT).blocks.parameters() if parameter.ndim > 1]
    for kernel in found:
        kernel.grad = torch.randn_like(kernel)
    return found


def ms(step: Callable[[], object], steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps * 1000


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    theirs = torch.optim.Muon(kernels(), lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {len(kernels())} kernels\n")
    print("| products in | torch's Muon, ms | StackedMuon, ms | ratio: median (all) |\n|---|---|---|---|")
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        ours = StackedMuon(kernels(), lr=1e-3, weight_decay=0.1, dtype=dtype)
        theirs.step(), ours.step()
        pairs = [(ms(theirs.step, arguments.steps), ms(ours.step, arguments.steps)) for _ in range(arguments.rounds)]
        ratios = [our / their for their, our in pairs]
        print(
            f"| {name} | {statistics.median(their for their, _ in pairs):.1f} "
            f"| {statistics.median(our for _, our in pairs):.1f} "
            f"| {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
