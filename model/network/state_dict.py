"""Files of torch.save: the tensors in them, and nothing that could run. Knows no layout."""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.errors import CheckpointError
from model.weights.tensor_names import some

_PARTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "ema", "net", "module")


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of torch.save, at its top or under state_dict, model and the like.

    Nothing in the file is run: it is read as weights alone.
    Raises: CheckpointError for a file with other objects than tensors and numbers, or without tensors; OSError.
    """
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            # a Namespace is what timm puts beside the tensors
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects, which are not loaded as they may run code, or is damaged; expected tensors,"
            " as torch.save(model.state_dict(), PATH) writes them."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected tensors by name.")
    for candidate in (content, *(content.get(part) for part in _PARTS)):
        if tensors := _tensors_of(candidate):
            return tensors
    raise CheckpointError(f"{path} holds {some(list(map(str, content)))}; expected tensors, or {', '.join(_PARTS)}.")


def _tensors_of(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
