"""Tensors by name as PyTorch's wrappers write them: their prefixes, and the file around them. Knows no layout.

DistributedDataParallel writes `module.`, torch.compile `_orig_mod.`, Lightning the name of an attribute, each before
the names that are there already; Flax writes `params/`.
"""

import argparse
import difflib
import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from model.errors import CheckpointError

_T = TypeVar("_T")
_WRAPPERS = re.compile(
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)  # may stand anywhere in a name
_PARTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "ema", "net", "module")
_MOST_NAMED, _MOST_COMPARED, _LONGEST = 3, 2000, 80


def unwrapped(path: Path, tensors: Mapping[str, _T], first: str) -> dict[str, _T]:
    """The network's own names. `first`: a name in every network of the layout, which reveals the prefix.

    Tensors under another prefix are left out. Without `first` the names stay as they are.
    Raises: CheckpointError where there are several networks.
    """
    named = [(_WRAPPERS.sub("", name), tensor) for name, tensor in tensors.items()]
    ends = ("." + first, "/" + first)
    prefixes = [name.removesuffix(first) for name, _ in named if name == first or name.endswith(ends)]
    if len(prefixes) > 1:
        some = _some([prefix or first for prefix in prefixes])
        raise CheckpointError(f"{path} holds {len(prefixes)} networks, at {some}; expected the tensors of one.")
    prefix = prefixes[0] if prefixes else ""
    return {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}


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
    raise CheckpointError(f"{path} holds {_some(list(map(str, content)))}; expected tensors, or {', '.join(_PARTS)}.")


def differences(missing: Collection[str], extra: Collection[str], layout: str) -> str:
    """In a few words, the missing and the extra names of a file; at least one of them is not empty."""
    lacking, others = sorted(missing), sorted(extra)[:_MOST_COMPARED]
    if not lacking:
        return f"has the tensor {_some(sorted(extra))}, which the {layout} layout does not."
    more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    found = ""
    if others:
        like = next(iter(difflib.get_close_matches(lacking[0], [name[:_LONGEST] for name in others], n=1, cutoff=0.0)))
        found = f"; of {len(extra)} that the layout has not, {_quoted(like)} is the nearest"
    return f"lacks the tensor {_quoted(lacking[0])} of the {layout} layout{more}{found}."


def _tensors_of(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(map(_quoted, names[:_MOST_NAMED])) or "nothing") + more


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...")
