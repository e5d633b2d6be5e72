"""Weights -> a proved bundle, and what the result depends on. The only place that knows what converts."""

import hashlib
import re
from pathlib import Path

from cli.pulling import packages
from cli.pulling.asked import VERSION
from model.errors import MixerError
from model.hubs.source import Weights

_CONVERTERS = ("torch", "onnxscript")
_OF_A_CHECKPOINT = ("config.json", "model.safetensors", "pictures/*", "best/config.json", "best/model.safetensors")
_SHA256 = re.compile("[0-9a-f]{64}")


def convert(weights: Weights, labels: tuple[str, ...] | None, bundle: Path) -> list[str]:
    """Write the bundle of a file of weights or of a checkpoint folder. Returns lines that tell what was found.

    Raises: MixerError, in one line, and where a package is missing, with what brings it.
    """
    packages.expect_installed(_CONVERTERS, "train,export")
    from export.bundle import export_data_of, publish  # noqa: PLC0415
    from model.network import checkpoint, run_folder, zoo  # noqa: PLC0415

    if weights.path.is_dir():
        if labels is not None:
            raise MixerError(f"{weights.path} is a checkpoint, which has its labels; expected no others for it.")
        loaded = checkpoint.load(run_folder.better(weights.path))
    else:
        loaded = zoo.read(weights.path, labels, weights.remote)
    pictures = export_data_of(loaded)
    published = publish(loaded, bundle, pictures, pictures.precisions)
    notes = () if weights.remote is None else weights.remote.notes
    return [
        f"Mixer {loaded.spec.variant}, {loaded.spec.image_size} pixels, {loaded.spec.num_classes} classes: "
        f"{', '.join(published.graphs)}",
        *(f"warning: {line}" for line in (*notes, *published.warnings, *published.refused.values())),
    ]


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
