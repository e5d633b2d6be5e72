"""Foreign checkpoints in: Google's .npz and timm's .safetensors or .pth, of any sizes, become a Checkpoint.

Sizes are read off the tensors. Leaves names and fetching to model/hubs/.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.data.layout import IMAGENET_1K, read_labels
from model.errors import CheckpointError
from model.hubs import source as hub_source
from model.hubs.remote import PAPER_FIT, Remote
from model.hubs.transfer import Progress
from model.network import checkpoint
from model.network.checkpoint import Checkpoint
from model.network.layouts import GOOGLE, TIMM, Entry, Layout, Tensors
from model.network.mixer import MixerConfig, MlpMixer, variant_name
from model.network.state_dict import differences, read_torch, unwrapped
from model.spec import ModelSpec, Source

_BLOCK = re.compile(r"(?:MixerBlock_|blocks\.)(\d+)[/.]")
_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")


def open_weights(source: str, progress: Progress = lambda done, total: None) -> Checkpoint:
    """A checkpoint folder, or public weights by their name, downloaded where they are not in the cache.

    Raises: CheckpointError.
    """
    found = hub_source.fetch(source, progress=progress)
    return checkpoint.load(found.path) if found.remote is None else read(found.path, None, found.remote)


def read(path: Path, labels: tuple[str, ...] | None = None, remote: Remote | None = None) -> Checkpoint:
    """Read a foreign weight file. `labels` default to ImageNet-1k's words where `remote` has its classes, else numbers.

    `remote` is where the file was fetched from, and says how its pictures are scaled and resized; without it
    these follow from the layout.

    Raises: CheckpointError, naming the file and the tensor that is missing, extra or misshapen.
    """
    layout, wrapped = _open(path)
    tensors = unwrapped(path, wrapped, layout.first)
    config = _infer(path, layout, tensors)
    if remote is not None:
        config = _prepared(path, config, remote)
    entries = list(layout.entries(config))
    _expect_names(path, layout, {entry.theirs for entry in entries}, set(tensors))
    model = MlpMixer(config)
    model.load_state_dict({entry.ours: torch.from_numpy(_converted(path, entry, tensors)) for entry in entries})
    return Checkpoint(model.eval(), _spec(path, layout, config, labels, remote))


def _prepared(path: Path, config: MixerConfig, remote: Remote) -> MixerConfig:
    """The sizes of `config` with the normalization and the GELU that go with where the file is from."""
    mean, std, gelu = remote.pixel_mean, remote.pixel_std, remote.gelu or config.gelu
    try:
        return replace(config, pixel_mean=mean, pixel_std=std, gelu=gelu)
    except ValueError as error:
        raise CheckpointError(f"{path} does not go with its preprocessing: {error}") from error


def _spec(
    path: Path, layout: Layout, config: MixerConfig, labels: tuple[str, ...] | None, remote: Remote | None
) -> ModelSpec:
    labels = labels if labels is not None or remote is None else remote.labels
    if labels is not None and len(labels) != config.num_classes:
        raise CheckpointError(f"{path} has {config.num_classes} classes; expected as many labels, not {len(labels)}.")
    return ModelSpec(
        name=path.stem if remote is None else Path(remote.filename).stem,
        variant=variant_name(config),
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3 if config.channels == 3 else 1,
        num_classes=config.num_classes,
        labels=labels or _default_labels(config.num_classes, remote),
        fit=PAPER_FIT if remote is None else remote.fit,
        interpolation=layout.interpolation if remote is None else remote.interpolation,
        source=Source(origin=f"{path.name}, {layout.name} layout" if remote is None else remote.url),
    )


def imagenet1k_labels() -> tuple[str, ...]:
    """The 1,000 classes of ILSVRC 2012 in their usual order, each by its first word in WordNet 3.0 that is its own."""
    return read_labels(IMAGENET_1K)


def _default_labels(num_classes: int, remote: Remote | None) -> tuple[str, ...]:
    if remote is not None and remote.is_imagenet1k and num_classes == 1000:
        return imagenet1k_labels()
    return tuple(str(index) for index in range(num_classes))


def _open(path: Path) -> tuple[Layout, Tensors]:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a file of weights.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return GOOGLE, {name: archive[name].astype(np.float32, copy=False) for name in archive.files}
        if suffix == ".safetensors":
            return TIMM, _as_arrays(load_file(path))
        if suffix in _TORCH_SUFFIXES:
            return TIMM, _as_arrays(read_torch(path))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise CheckpointError(f"{path} cannot be read as {path.suffix}: {_reason(path, error)}") from error
    raise CheckpointError(
        f"{path} ends in {path.suffix!r}; expected Google's .npz or timm's .safetensors, {', '.join(_TORCH_SUFFIXES)}."
    )


def _as_arrays(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, with its real kind where that is known."""
    if isinstance(error, OSError):
        return f"{error.strerror}."
    with path.open("rb") as file:
        start = file.read(32).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return "It is a pointer of Git LFS; expected the file itself, as git lfs pull fetches it."
    if start.startswith((b"<!", b"<html")):
        return "It is a web page; expected the file itself."
    return " ".join(str(error).split())[:300] or "It is empty."


def _infer(path: Path, layout: Layout, tensors: Tensors) -> MixerConfig:
    try:
        patch_size, channels, hidden, num_patches, tokens_mlp, channels_mlp, classes = layout.sizes(tensors)
    except KeyError as error:
        raise CheckpointError(f"{path} {differences([error.args[0]], set(tensors), layout.name)}") from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} has a tensor of unexpected rank for the {layout.name} layout: {error}"
        ) from error
    side = math.isqrt(num_patches)
    if side * side != num_patches:
        raise CheckpointError(f"{path} mixes {num_patches} patches; expected a square number.")
    blocks = {match[1] for name in tensors if (match := _BLOCK.match(name))}
    try:
        return MixerConfig(
            side * patch_size, patch_size, hidden, len(blocks), tokens_mlp, channels_mlp, channels, classes, layout.gelu
        )
    except ValueError as error:
        raise CheckpointError(f"{path} does not describe a Mixer: {error}") from error


def _expect_names(path: Path, layout: Layout, expected: set[str], found: set[str]) -> None:
    if expected != found:
        raise CheckpointError(f"{path} {differences(expected - found, found - expected, layout.name)}")


def _converted(path: Path, entry: Entry, tensors: Tensors) -> NDArray[np.float32]:
    tensor = tensors[entry.theirs]
    if tensor.shape != entry.shape:
        raise CheckpointError(f"{path}: the tensor {entry.theirs!r} is {tensor.shape}; expected {entry.shape}.")
    return np.ascontiguousarray(entry.convert(tensor))
