"""How wide the parts of a wide MLP are. docs/decisions/0009 has the figures. Knows neither torch nor ONNX."""

_COLLIDING = 1024  # floats
_WIDEST, _NARROWEST, _STEP = 768, 512, 16  # of a part


def part_width(mlp_dim: int) -> int:
    """How wide each part of a hidden layer is: all of it, or an even share of 512 to 768 where its rows collide."""
    if mlp_dim % _COLLIDING:
        return mlp_dim
    return next(width for width in range(_WIDEST, _NARROWEST - 1, -_STEP) if mlp_dim % width == 0)
