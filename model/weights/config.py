"""The sizes of an MLP-Mixer (arXiv 2105.01601, section 2), the paper's variants, and the tensors that follow.

Knows no framework: the torch module, the ONNX graph and the forward pass in NumPy are built from it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

LAYER_NORM_EPS = 1e-6  # the reference implementation's; torch's own default is 1e-5

_SIZES = ("patch_size", "hidden_dim", "num_blocks", "tokens_mlp_dim", "channels_mlp_dim")  # define a variant

GeluFlavour = Literal["tanh", "erf"]


@dataclass(frozen=True)
class MixerConfig:
    """Sizes of a Mixer and the scale of its input. Pixels enter as (pixel - pixel_mean) / pixel_std, per channel.

    head_hidden_dim: width of the hidden layer in the head; 0 for the paper's head, which is linear.
    """

    image_size: int
    patch_size: int
    hidden_dim: int
    num_blocks: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    channels: int = 3
    num_classes: int = 1000
    gelu: GeluFlavour = "erf"
    pixel_mean: tuple[float, ...] = (127.5,)
    pixel_std: tuple[float, ...] = (127.5,)
    head_hidden_dim: int = 0

    def __post_init__(self) -> None:
        for name in (*_SIZES, "image_size", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.head_hidden_dim < 0:
            raise ValueError(f"head_hidden_dim is {self.head_hidden_dim}; expected at least 0.")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}; expected 1 or 3.")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size is {self.image_size}; expected a multiple of patch_size {self.patch_size}.")
        if self.gelu not in ("tanh", "erf"):
            raise ValueError(f"gelu is {self.gelu!r}; expected 'tanh' or 'erf'.")
        for name in ("pixel_mean", "pixel_std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} values; expected 1 or {self.channels}.")
        if not all(value > 0 for value in self.pixel_std):
            raise ValueError(f"pixel_std is {self.pixel_std}; expected more than 0.")

    @property
    def num_patches(self) -> int:
        """S."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_dim(self) -> int:
        """P * P * C_in: how many numbers a patch holds."""
        return self.patch_size**2 * self.channels

    def written(self) -> dict[str, Any]:
        """The fields as files have them: without head_hidden_dim where it is 0, as versions that lack it read them."""
        return {name: value for name, value in asdict(self).items() if value or name != "head_hidden_dim"}


def _paper(patch_size: int, num_blocks: int, hidden_dim: int) -> MixerConfig:
    """Table 1: the token-mixing MLP is half as wide as the tokens, the channel-mixing MLP four times as wide.

    The paper's code has the GELU by tanh, jax.nn.gelu's default.
    """
    return MixerConfig(224, patch_size, hidden_dim, num_blocks, hidden_dim // 2, hidden_dim * 4, gelu="tanh")


VARIANTS = {
    "S/32": _paper(32, 8, 512),
    "S/16": _paper(16, 8, 512),
    "B/32": _paper(32, 12, 768),
    "B/16": _paper(16, 12, 768),
    "L/32": _paper(32, 24, 1024),
    "L/16": _paper(16, 24, 1024),
    "H/14": _paper(14, 32, 1280),
}


def variant_name(config: MixerConfig) -> str:
    """The paper's name for these sizes ("B/16"), or "custom"."""
    for name, variant in VARIANTS.items():
        if all(getattr(variant, size) == getattr(config, size) for size in _SIZES):
            return name
    return "custom"


def tensor_shapes(config: MixerConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of a Mixer of these sizes by name, with their shapes. Kernels are (out, in), as torch has them."""
    hidden = config.hidden_dim
    yield from _dense("stem", config.patch_dim, hidden)
    for index in range(config.num_blocks):
        name = f"blocks.{index}"
        for norm, mlp, dim, mlp_dim in (
            (0, "token_mixing", config.num_patches, config.tokens_mlp_dim),
            (1, "channel_mixing", hidden, config.channels_mlp_dim),
        ):
            yield from _layer_norm(f"{name}.layer_norm_{norm}", hidden)
            yield from _dense(f"{name}.{mlp}.dense_0", dim, mlp_dim)
            yield from _dense(f"{name}.{mlp}.dense_1", mlp_dim, dim)
    yield from _layer_norm("pre_head_layer_norm", hidden)
    if config.head_hidden_dim:
        yield from _dense("head_hidden", hidden, config.head_hidden_dim)
    yield from _dense("head", config.head_hidden_dim or hidden, config.num_classes)


def _dense(name: str, dim: int, out_dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out_dim, dim)
    yield f"{name}.bias", (out_dim,)


def _layer_norm(name: str, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (dim,)
    yield f"{name}.bias", (dim,)
