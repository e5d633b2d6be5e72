"""Foreign checkpoints in: Google's .npz and timm's .safetensors or .pth, of any sizes, become a Checkpoint.

Sizes are read off the tensors. Key layouts: google-research/vision_transformer `models_mixer.py`, timm `mlp_mixer.py`.
Knows nothing of where the files come from.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.data.labels import IMAGENET_1K, read_labels
from model.errors import CheckpointError
from model.network.checkpoint import Checkpoint
from model.network.hub import Remote
from model.network.mixer import GeluFlavour, MixerConfig, MlpMixer, variant_name
from model.network.state_dict import differences, read_torch, unwrapped
from model.spec import Fit, Interpolation, ModelSpec, Source

Tensors = Mapping[str, NDArray[np.float32]]
_BLOCK = re.compile(r"(?:MixerBlock_|blocks\.)(\d+)[/.]")
_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
_PAPER_FIT = Fit(mode="crop", crop_percentage=0.875)  # shorter side to 256, central 224


@dataclass(frozen=True)
class Entry:
    """One tensor of ours: what it is called and shaped elsewhere, and how it becomes ours."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    convert: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda tensor: tensor


@dataclass(frozen=True)
class Layout:
    """How one code base names and orders a Mixer's tensors. `first`: the name of the stem's, which tells a prefix."""

    name: str
    first: str
    gelu: GeluFlavour
    interpolation: Interpolation
    sizes: Callable[[Tensors], tuple[int, int, int, int, int, int, int]]
    entries: Callable[[MixerConfig], Iterator[Entry]]


def read(path: Path, labels: tuple[str, ...] | None = None, remote: Remote | None = None) -> Checkpoint:
    """Read a foreign weight file. `labels` default to ImageNet-1k's words where `remote` has its classes, else numbers.

    `remote` is where the file was fetched from, and says how its pictures are scaled and resized; without it that
    follows from the layout.

    Raises: CheckpointError, naming the file and the tensor that is missing, extra or misshapen.
    """
    layout, wrapped = _open(path)
    tensors = unwrapped(path, wrapped, layout.first)
    config = _infer(path, layout, tensors)
    if remote is not None:
        config = replace(config, pixel_mean=(remote.pixel_mean,), pixel_std=(remote.pixel_std,))
    entries = list(layout.entries(config))
    _expect_names(path, layout, {entry.theirs for entry in entries}, set(tensors))
    model = MlpMixer(config)
    model.load_state_dict({entry.ours: torch.from_numpy(_converted(path, entry, tensors)) for entry in entries})
    return Checkpoint(model.eval(), _spec(path, layout, config, labels, remote))


def _spec(
    path: Path, layout: Layout, config: MixerConfig, labels: tuple[str, ...] | None, remote: Remote | None
) -> ModelSpec:
    if labels is not None and len(labels) != config.num_classes:
        raise CheckpointError(f"{path} has {config.num_classes} classes; expected as many labels, not {len(labels)}.")
    return ModelSpec(
        name=path.stem,
        variant=variant_name(config),
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3 if config.channels == 3 else 1,
        num_classes=config.num_classes,
        labels=labels or _default_labels(config.num_classes, remote),
        fit=_PAPER_FIT,
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
    """Why a file cannot be read, and what it is in place of the file that was meant."""
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


# --- Google: Dense kernels are (in, out) -----------------------------------------------------------------------------


def _google_sizes(tensors: Tensors) -> tuple[int, int, int, int, int, int, int]:
    patch_size, _, channels, hidden = tensors["stem/kernel"].shape
    num_patches, tokens_mlp = tensors["MixerBlock_0/token_mixing/Dense_0/kernel"].shape
    _, channels_mlp = tensors["MixerBlock_0/channel_mixing/Dense_0/kernel"].shape
    return patch_size, channels, hidden, num_patches, tokens_mlp, channels_mlp, tensors["head/kernel"].shape[1]


def _google_entries(config: MixerConfig) -> Iterator[Entry]:
    patch, hidden, seen = config.patch_size, config.hidden_dim, config.num_patches
    stem = (patch, patch, config.channels, hidden)
    yield Entry("stem.weight", "stem/kernel", stem, lambda kernel: kernel.reshape(-1, hidden).T)
    yield Entry("stem.bias", "stem/bias", (hidden,))
    for index in range(config.num_blocks):
        ours, theirs = f"blocks.{index}", f"MixerBlock_{index}"
        for norm in (0, 1):
            yield Entry(f"{ours}.layer_norm_{norm}.weight", f"{theirs}/LayerNorm_{norm}/scale", (hidden,))
            yield Entry(f"{ours}.layer_norm_{norm}.bias", f"{theirs}/LayerNorm_{norm}/bias", (hidden,))
        for mlp, dim, mlp_dim in (
            ("token_mixing", seen, config.tokens_mlp_dim),
            ("channel_mixing", hidden, config.channels_mlp_dim),
        ):
            for dense, shape in ((0, (dim, mlp_dim)), (1, (mlp_dim, dim))):
                yield from _google_dense(f"{ours}.{mlp}.dense_{dense}", f"{theirs}/{mlp}/Dense_{dense}", shape)
    yield Entry("pre_head_layer_norm.weight", "pre_head_layer_norm/scale", (hidden,))
    yield Entry("pre_head_layer_norm.bias", "pre_head_layer_norm/bias", (hidden,))
    yield from _google_dense("head", "head", (hidden, config.num_classes))


def _google_dense(ours: str, theirs: str, shape: tuple[int, int]) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", f"{theirs}/kernel", shape, lambda kernel: kernel.T)
    yield Entry(f"{ours}.bias", f"{theirs}/bias", (shape[1],))


# --- timm: torch's own (out, in), the stem a convolution --------------------------------------------------------------


def _timm_sizes(tensors: Tensors) -> tuple[int, int, int, int, int, int, int]:
    hidden, channels, patch_size, _ = tensors["stem.proj.weight"].shape
    tokens_mlp, num_patches = tensors["blocks.0.mlp_tokens.fc1.weight"].shape
    channels_mlp, _ = tensors["blocks.0.mlp_channels.fc1.weight"].shape
    return patch_size, channels, hidden, num_patches, tokens_mlp, channels_mlp, tensors["head.weight"].shape[0]


def _timm_entries(config: MixerConfig) -> Iterator[Entry]:
    patch, hidden, seen = config.patch_size, config.hidden_dim, config.num_patches
    stem = (hidden, config.channels, patch, patch)
    yield Entry("stem.weight", "stem.proj.weight", stem, lambda w: w.transpose(0, 2, 3, 1).reshape(hidden, -1))
    yield Entry("stem.bias", "stem.proj.bias", (hidden,))
    for index in range(config.num_blocks):
        for ours, theirs in (("layer_norm_0", "norm1"), ("layer_norm_1", "norm2")):
            yield from _timm_pair(f"blocks.{index}.{ours}", f"blocks.{index}.{theirs}", (hidden,))
        for ours, theirs, dim, mlp_dim in (
            ("token_mixing", "mlp_tokens", seen, config.tokens_mlp_dim),
            ("channel_mixing", "mlp_channels", hidden, config.channels_mlp_dim),
        ):
            for dense, shape in ((0, (mlp_dim, dim)), (1, (dim, mlp_dim))):
                name = f"blocks.{index}.{theirs}.fc{dense + 1}"
                yield from _timm_pair(f"blocks.{index}.{ours}.dense_{dense}", name, shape)
    yield from _timm_pair("pre_head_layer_norm", "norm", (hidden,))
    yield from _timm_pair("head", "head", (config.num_classes, hidden))


def _timm_pair(ours: str, theirs: str, shape: tuple[int, ...]) -> Iterator[Entry]:
    yield Entry(f"{ours}.weight", f"{theirs}.weight", shape)
    yield Entry(f"{ours}.bias", f"{theirs}.bias", shape[:1])


GOOGLE = Layout("Google", "stem/kernel", "tanh", "bilinear", _google_sizes, _google_entries)
TIMM = Layout("timm", "stem.proj.weight", "erf", "bicubic", _timm_sizes, _timm_entries)
