"""A checkpoint folder: model.safetensors, config.json, and a few pictures to check an export with. Knows no torch.

Writes are atomic: a reader sees the old file or the new one, never half of one.
"""

import errno
import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from model.errors import CheckpointError
from model.hubs.names import WEIGHT_SUFFIXES, as_written, is_name
from model.preprocess import Pixels, to_pixels
from model.spec import ModelSpec
from model.weights.config import MixerConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
IMAGES = "pictures"
FIRST = "stem.weight"  # which every network has


@dataclass(frozen=True)
class Description:
    """All of a checkpoint but its weights: sizes, spec, provenance (`training`: free-form JSON), and real pictures."""

    config: MixerConfig
    spec: ModelSpec
    training: Mapping[str, Any] = field(default_factory=dict)
    images: Pixels | None = None  # uint8 [n, H, W, C]: not in the training set


def save_folder(description: Description, folder: Path, save_weights: Callable[[Path], None]) -> None:
    """Write a checkpoint folder, its weights by `save_weights`. Raises CheckpointError where it cannot be written."""
    content = {
        "model": description.config.written(),
        "spec": description.spec.model_dump(mode="json"),
        "training": dict(description.training),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".saving-", dir=folder) as name:
            new = Path(name)  # a full disk fails before anything is replaced
            save_weights(new / WEIGHTS)
            (new / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (new / WEIGHTS).chmod((new / CONFIG).stat().st_mode)  # safetensors lets nobody but the owner read
            if description.images is not None:
                _save_images(description.images, new / IMAGES)
            _put_in_place(new, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be written: {write_failure(error, folder)}") from error


def load_description(folder: Path) -> Description:
    """Read all of a checkpoint folder but its weights. Raises CheckpointError, naming the file and what is wrong."""
    path = folder / CONFIG
    if not path.exists():
        raise CheckpointError(_no_checkpoint(folder))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = TypeAdapter(MixerConfig).validate_python(content["model"])
        spec = ModelSpec.model_validate(content["spec"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's config: {first_line(error)}") from error
    _expect_agreement(path, config, spec)
    return Description(config, spec, content.get("training", {}), _load_images(folder / IMAGES, config.channels))


def save_spec(spec: ModelSpec, folder: Path) -> None:
    """Replace the spec of the checkpoint in `folder`, and nothing else. Raises CheckpointError."""
    path = folder / CONFIG
    try:
        content = {**json.loads(path.read_text(encoding="utf-8")), "spec": spec.model_dump(mode="json")}
        write_atomically(path, lambda new: new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {write_failure(error, folder)}") from error


def write_failure(error: Exception, folder: Path) -> str:
    """Why writing to `folder` failed, with the free space where that may be the reason."""
    words = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return words
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path())
    return (
        f"{words} ({shutil.disk_usage(existing).free / 2**20:.0f} MiB are free; what was saved before is as it was. "
        "Make room, and give the same command again.)"
    )


def _put_in_place(new: Path, folder: Path) -> None:
    """Move the files of `new`, which is on the same disk, over those of `folder`."""
    shutil.rmtree(folder / IMAGES, ignore_errors=True)
    for name in (IMAGES, WEIGHTS, CONFIG):
        if (new / name).exists():
            (new / name).replace(folder / name)


def expect_checkpoint_folder(folder: Path) -> None:
    """Raises CheckpointError where `folder` is a file, or holds other things than a checkpoint does."""
    if not folder.exists() or (folder / CONFIG).is_file():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; expected a folder to write the checkpoint to.")
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise CheckpointError(
            f"{folder} is no checkpoint and holds {', '.join(others[:3])}{more}; "
            "expected a new folder, an empty one or a checkpoint to replace."
        )


def _no_checkpoint(folder: Path) -> str:
    """Describes a path without a checkpoint's config, and the nearest known name."""
    written = as_written(folder)
    if is_name(written) or folder.suffix in WEIGHT_SUFFIXES:
        kind = "is a file of weights" if folder.suffix in WEIGHT_SUFFIXES else "stands for public weights"
        imported = shlex.join(["mixer", "import", written, "CHECKPOINT"])
        return f"{written} {kind}; expected a checkpoint folder, as {imported} makes of them."
    if not folder.exists():
        return f"{folder} does not exist; expected a checkpoint folder."
    inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    meant = f", such as {inside[0]}" if inside else ""
    return f"{folder} has no {CONFIG}; expected a checkpoint folder{meant}."


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a neighbouring file, then rename it to `path`."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _expect_agreement(path: Path, config: MixerConfig, spec: ModelSpec) -> None:
    for name in ("image_size", "patch_size", "channels", "num_classes"):
        if getattr(config, name) != getattr(spec, name):
            raise CheckpointError(
                f"{path} has {name} {getattr(spec, name)} in its spec; expected the network's {getattr(config, name)}."
            )


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300]


def _save_images(images: Pixels, folder: Path) -> None:
    folder.mkdir()
    for index, pixels in enumerate(images):
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(folder / f"{index:04}.png")


def _load_images(folder: Path, channels: int) -> Pixels | None:
    paths = sorted(folder.glob("*.png"))
    if not paths:
        return None
    try:
        return np.stack([_read_image(path, channels) for path in paths])
    except (OSError, ValueError, SyntaxError) as error:
        raise CheckpointError(f"{folder} holds a picture that cannot be read: {error}") from error


def _read_image(path: Path, channels: int) -> Pixels:
    with Image.open(path) as image:
        return to_pixels(image, channels)
