"""Weights -> a proved bundle, and what the result depends on. The only place that knows what converts."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cli.pulling import packages
from cli.pulling.asked import VERSION
from model.hubs.source import Weights

if TYPE_CHECKING:
    from export.bundle import Published

_OF_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
_OF_A_CHECKPOINT = ("config.json", "model.safetensors", "pictures/*", "best/config.json", "best/model.safetensors")
_SHA256 = re.compile("[0-9a-f]{64}")


def convert(weights: Weights, labels: tuple[str, ...] | None, bundle: Path) -> list[str]:
    """Write the bundle of a file of weights or of a checkpoint folder. Returns lines that tell what was found.

    Only files of torch.save need torch. Raises: MixerError, in one line; of what is missing, with what brings it.
    """
    packages.expect_installed()
    from export.direct import convert as direct  # noqa: PLC0415
    from model.network import run_folder  # noqa: PLC0415

    if weights.path.suffix.lower() in _OF_TORCH and weights.path.is_file():
        published = _published_by_torch(weights, labels, bundle)
    else:
        path = run_folder.better(weights.path) if weights.path.is_dir() else weights.path
        published = direct.convert(path, weights.remote, labels, bundle)
    spec = published.graphs["fp32"].spec
    notes = () if weights.remote is None else weights.remote.notes
    return [
        f"Mixer {spec.variant}, {spec.image_size} pixels, {spec.num_classes} classes: {', '.join(published.graphs)}",
        *(f"warning: {line}" for line in (*notes, *published.warnings, *published.refused.values())),
    ]


def _published_by_torch(weights: Weights, labels: tuple[str, ...] | None, bundle: Path) -> "Published":
    packages.expect_installed(("torch", "onnxscript"), "train,export")
    from export.bundle import export_data_of, publish  # noqa: PLC0415
    from export.to_onnx import TorchNetwork  # noqa: PLC0415
    from model.network import zoo  # noqa: PLC0415

    network = TorchNetwork(zoo.read(weights.path, labels, weights.remote))
    return publish(network, bundle, export_data_of(network))


def key_of(weights: Weights, labels: tuple[str, ...] | None) -> str:
    """A folder's name that is another one for other weights, another description of them, other labels or VERSION."""
    parts = [VERSION, _digest(weights.path), weights.remote, labels]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or those of a checkpoint's. In the hub's cache it is the file's name, and was checked."""
    if _SHA256.fullmatch(path.resolve().name):
        return path.resolve().name
    if path.is_dir():
        files = sorted(file for pattern in _OF_A_CHECKPOINT for file in path.glob(pattern))
        return " ".join(f"{file.relative_to(path)} {_digest(file)}" for file in files)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
