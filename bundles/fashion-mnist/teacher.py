"""Train a small convolutional network that teaches the Mixer, and write it as teacher.onnx.

    python bundles/fashion-mnist/teacher.py DATA OUT [--init OTHER] [--epochs N] [--learning-rate N] [--distort SHARE]

The graph takes uint8 pixels [N, 28, 28, 1] and gives logits [N, 10], which is what `mixer train --teacher` asks of any
graph. The run is saved in OUT after every epoch and goes on from there when it is started again. OTHER is the OUT of
another run, whose weights it begins with.
"""

import argparse
import json
import math
import time
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.graph import forget_traces
from model.data.augment import augment
from model.data.batch_rng import BatchRng
from model.data.dataset import ImageSet, PreprocessConfig
from model.data.loading import load
from model.recipe import Augmentation
from model.spec import Fit

BATCH_SIZE, MOMENTUM, WEIGHT_DECAY, WARMUP = 256, 0.9, 5e-4, 0.1  # warm-up as a share of the run
AUGMENTATION = Augmentation(flip=0.5, pad_crop=2 / 28, erase=0.25)
VAL_FRACTION = 0.05  # the Mixer's own split, with its seed: what is held out there is held out here


class Unit(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
        )


class Residual(nn.Module):
    """Two units with a skip connection around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(Unit(channels, channels), Unit(channels, channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, H, W]."""
        return maps + self.branch(maps)


class Teacher(nn.Module):
    """A residual network of 464,000 parameters: 28x28, 14x14 and 7x7 maps of 32, 64 and 128 channels."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Unit(1, 32), Unit(32, 64, 2), Residual(64), Unit(64, 128, 2), Residual(128), nn.AdaptiveMaxPool2d(1)
        )
        self.head = nn.Linear(128, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [N, K] of uint8 pixels [N, 28, 28, 1]."""
        maps = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # N 1 H W
        return self.head(self.body(maps).flatten(1))


def learning_rate(progress: float) -> float:
    """What to multiply the highest rate by: linearly up, then linearly down to zero; progress from 0 to 1."""
    return min(progress / WARMUP, (1 - progress) / (1 - WARMUP))


def batch_of(images: ImageSet, chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the chosen pictures."""
    rows = chosen.numpy()
    return torch.from_numpy(images.pixels[rows]).to(device), torch.from_numpy(images.labels[rows]).to(device)


@torch.inference_mode()
def accuracy(model: Teacher, images: ImageSet, device: torch.device) -> float:
    """Top-1 on the pictures, as a fraction."""
    model.eval()
    correct = 0
    for chosen in torch.arange(len(images)).split(500):
        pixels, labels = batch_of(images, chosen, device)
        correct += int((model(pixels).argmax(1) == labels).sum())
    return correct / len(images)


def train_epoch(
    model: Teacher,
    optimizer: torch.optim.Optimizer,
    images: ImageSet,
    epoch: int,
    device: torch.device,
    options: argparse.Namespace,
) -> float:
    """One pass over the pictures; order and variation depend on the epoch alone. Returns the mean loss."""
    augmentation = AUGMENTATION.model_copy(update={"distort": options.distort})
    model.train()
    batches = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch)).split(BATCH_SIZE)
    total = 0.0
    for index, chosen in enumerate(batches):
        for group in optimizer.param_groups:
            progress = (epoch + (index + 1) / len(batches)) / options.epochs
            group["lr"] = options.learning_rate * learning_rate(progress)
        pixels, labels = batch_of(images, chosen, device)
        with torch.autocast(device.type, torch.bfloat16):
            varied = augment(pixels, augmentation, BatchRng([epoch, index], len(chosen), device=device))
            logits = model(varied).float()
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        if not math.isfinite(total):
            raise SystemExit(f"the loss is {loss.item()} in epoch {epoch + 1}.")
    return total / len(batches)


def main() -> None:
    """Train, and write OUT/teacher.onnx and OUT/teacher.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--epochs", type=int, default=28)
    parser.add_argument("--learning-rate", type=float, default=0.1, help="the highest; default 0.1")
    parser.add_argument("--distort", type=float, default=0.0, help="share of distorted pictures; default 0")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset = load(options.data, PreprocessConfig(28, 1, Fit(mode="pad")), val_fraction=VAL_FRACTION)
    torch.manual_seed(0)
    model = Teacher().to(device, memory_format=torch.channels_last)
    if options.init is not None:
        begun = torch.load(options.init / "teacher.pt", map_location=device, weights_only=True)
        model.load_state_dict(begun["model"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    history: list[dict[str, float]] = []
    saved = out / "teacher.pt"
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
    for epoch in range(len(history), options.epochs):
        started = time.monotonic()
        loss = train_epoch(model, optimizer, dataset.train, epoch, device, options)
        seconds = time.monotonic() - started
        history.append(
            {"epoch": epoch + 1, "loss": loss, "val_top1": accuracy(model, dataset.val, device), "seconds": seconds}
        )
        print(json.dumps(history[-1]), flush=True)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
        torch.save(state, out / "teacher.new")
        (out / "teacher.new").replace(saved)
    (out / "teacher.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    torch.onnx.export(
        model.eval().cpu(),
        (torch.zeros(2, 28, 28, 1, dtype=torch.uint8),),
        out / "teacher.onnx",
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["pixels"],
        output_names=["logits"],
        opset_version=20,
        external_data=False,
    )
    graph = onnx.load(out / "teacher.onnx")
    forget_traces(graph)
    onnx.save(graph, out / "teacher.onnx")


if __name__ == "__main__":
    main()
