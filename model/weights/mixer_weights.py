"""The weights of a Mixer by our names, from files of Google's and timm's layouts. Knows no framework, and no labels.

The sizes are read off the shapes; nothing else of the file is read before a tensor is asked for.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.errors import CheckpointError
from model.weights.config import GeluFlavour, MixerConfig, tensor_shapes
from model.weights.layouts import GOOGLE, TIMM, Entry, Layout
from model.weights.tensor_file import Array, StoredTensor, StoredTensors, open_npz, open_safetensors
from model.weights.tensor_names import differences, unwrapped

_BLOCK = re.compile(r"(?:MixerBlock_|blocks\.)(\d+)[/.]")
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True)
class MixerWeights:
    """A Mixer: its sizes, and its tensors by the names and shapes of config.tensor_shapes."""

    config: MixerConfig
    tensors: StoredTensors

    def prepared(
        self, pixel_mean: tuple[float, ...], pixel_std: tuple[float, ...], gelu: GeluFlavour
    ) -> "MixerWeights":
        """The same with another scale of its input, in 0..255, and another GELU. Raises ValueError, as MixerConfig."""
        return replace(self, config=replace(self.config, pixel_mean=pixel_mean, pixel_std=pixel_std, gelu=gelu))


def read_weights(path: Path) -> tuple[MixerWeights, Layout]:
    """Read Google's .npz or timm's .safetensors. Raises CheckpointError, naming the tensor that is wrong."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; expected a file of weights.")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return by_our_names(path, GOOGLE, open_npz(path)), GOOGLE
    if suffix == ".safetensors":
        return by_our_names(path, TIMM, open_safetensors(path)), TIMM
    if suffix in TORCH_SUFFIXES:
        raise CheckpointError(f"{path} is a file of torch.save, which only torch reads; expected .npz or .safetensors.")
    raise CheckpointError(
        f"{path} ends in {path.suffix!r}; expected Google's .npz or timm's .safetensors, {', '.join(TORCH_SUFFIXES)}."
    )


def by_our_names(path: Path, layout: Layout, wrapped: StoredTensors) -> MixerWeights:
    """The network in a file of this layout, whatever wrapped it. Raises CheckpointError."""
    tensors = unwrapped(path, wrapped, layout.first)
    config = _infer(path, layout, tensors)
    entries = list(layout.entries(config))
    expected, found = {entry.theirs for entry in entries}, set(tensors)
    if expected != found:
        raise CheckpointError(f"{path} {differences(expected - found, found - expected, layout.name)}")
    for entry in entries:
        if (shape := tensors[entry.theirs].shape) != entry.shape:
            raise CheckpointError(f"{path}: the tensor {entry.theirs!r} is {shape}; expected {entry.shape}.")
    theirs, shapes = {entry.ours: entry for entry in entries}, dict(tensor_shapes(config))
    return MixerWeights(
        config,
        {name: StoredTensor(shape, _reader(theirs[name], tensors)) for name, shape in shapes.items()},
    )


def own_weights(path: Path, config: MixerConfig, tensors: StoredTensors) -> MixerWeights:
    """Tensors that bear our names already. Raises CheckpointError where they are not those of such a Mixer."""
    expect_blocks(path, config, tensors)
    shapes = dict(tensor_shapes(config))
    if shapes.keys() != tensors.keys():
        missing, extra = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
        raise CheckpointError(f"{path} {differences(missing, extra, 'checkpoint')}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise CheckpointError(f"{path}: the tensor {name!r} is {tensors[name].shape}; expected {shape}.")
    return MixerWeights(config, tensors)


def expect_blocks(path: Path, config: MixerConfig, tensors: Collection[str]) -> None:
    """Raises CheckpointError for more blocks than tensors: a config may claim any number, and none is made of them."""
    if config.num_blocks > len(tensors):
        raise CheckpointError(f"{path} has {len(tensors)} tensors; expected those of {config.num_blocks} blocks.")


def _reader(entry: Entry, tensors: Mapping[str, StoredTensor]) -> Callable[[], Array]:
    return lambda: np.ascontiguousarray(entry.convert(tensors[entry.theirs].read()))


def _infer(path: Path, layout: Layout, tensors: StoredTensors) -> MixerConfig:
    try:
        patch_size, channels, hidden, num_patches, tokens_mlp, channels_mlp, classes = layout.sizes(tensors)
    except KeyError as error:
        raise CheckpointError(f"{path} {differences([error.args[0]], set(tensors), layout.name)}") from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} has a tensor of unexpected rank for the {layout.name} layout: {error}"
        ) from error
    side = math.isqrt(abs(num_patches))
    if side * side != num_patches:
        raise CheckpointError(f"{path} mixes {num_patches} patches; expected a square number.")
    blocks = {match[1] for name in tensors if (match := _BLOCK.match(name))}
    try:
        return MixerConfig(
            side * patch_size, patch_size, hidden, len(blocks), tokens_mlp, channels_mlp, channels, classes, layout.gelu
        )
    except ValueError as error:
        raise CheckpointError(f"{path} does not describe a Mixer: {error}") from error
