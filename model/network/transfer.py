"""A trained Mixer as the start of another: a new head, a higher resolution (appendix C). Knows nothing of training."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from model.errors import CheckpointError
from model.network.mixer import MlpBlock, MlpMixer


def with_new_head(model: MlpMixer, num_classes: int, head_hidden_dim: int = 0) -> MlpMixer:
    """The same network with a zero head for `num_classes` classes; the old head is given up, with its hidden layer."""
    renewed = MlpMixer(replace(model.config, num_classes=num_classes, head_hidden_dim=head_hidden_dim))
    kept = {name: tensor for name, tensor in model.state_dict().items() if not is_of_head(name)}
    renewed.load_state_dict(kept, strict=False)
    return renewed


def is_of_head(name: str) -> bool:
    """Whether a tensor is one of the head's, or of its hidden layer's."""
    return name.startswith(("head.", "head_hidden."))


def at_resolution(model: MlpMixer, image_size: int) -> MlpMixer:
    """The same network for pictures K times as wide and high, K whole: K * K tiles, each mixed as before.

    The token-mixing MLPs become block-diagonal, one block for each tile, so that at first the pre-logits of a mosaic of
    K * K pictures are the mean of the pre-logits of each; training then adds mixing between tiles.

    Raises: CheckpointError where `image_size` is no multiple of the network's.
    """
    factor, rest = divmod(image_size, model.config.image_size)
    if rest or not factor:
        raise CheckpointError(
            f"image_size is {image_size}; expected a multiple of the checkpoint's {model.config.image_size}."
        )
    if factor == 1:
        return model
    tiles = factor * factor
    config = replace(model.config, image_size=image_size, tokens_mlp_dim=model.config.tokens_mlp_dim * tiles)
    grown = MlpMixer(config)
    kept = {name: tensor for name, tensor in model.state_dict().items() if ".token_mixing." not in name}
    grown.load_state_dict(kept, strict=False)
    order = _tile_order(model.config.image_size // model.config.patch_size, factor)
    for small, large in zip(model.blocks, grown.blocks, strict=True):
        _fill_block_diagonal(small.token_mixing, large.token_mixing, tiles, order)  # type: ignore[arg-type]
    return grown


def _tile_order(grid: int, factor: int) -> Tensor:
    """For every token in raster order, its index in tile-by-tile order: int64 [(factor * grid) ** 2]."""
    places = torch.arange((factor * grid) ** 2).reshape(
        factor, factor, grid, grid
    )  # tile row, tile column, row, column
    return places.permute(0, 2, 1, 3).reshape(-1)


@torch.no_grad()
def _fill_block_diagonal(small: MlpBlock, large: MlpBlock, tiles: int, order: Tensor) -> None:
    """D_S x S becomes (tiles * D_S) x (tiles * S), its columns (and the second layer's rows) in raster order."""
    each = torch.eye(tiles)
    first = torch.kron(each, small.dense_0.weight)
    second = torch.kron(each, small.dense_1.weight)
    _copy(large.dense_0, first[:, order], small.dense_0.bias.repeat(tiles))
    _copy(large.dense_1, second[order], small.dense_1.bias.repeat(tiles)[order])


def _copy(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
