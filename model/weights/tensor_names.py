"""Names of tensors as wrappers and other code bases write them: prefixes, and what is missing or extra. Opens no file.

DistributedDataParallel writes `module.`, torch.compile `_orig_mod.`, Lightning the name of an attribute, each before
the names that are there already; Flax writes `params/`.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from model.errors import CheckpointError

_T = TypeVar("_T")
_WRAPPERS = re.compile(
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)  # may stand anywhere in a name
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
        found = some([prefix or first for prefix in prefixes])
        raise CheckpointError(f"{path} holds {len(prefixes)} networks, at {found}; expected the tensors of one.")
    prefix = prefixes[0] if prefixes else ""
    return {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}


def differences(missing: Collection[str], extra: Collection[str], layout: str) -> str:
    """In a few words, the missing and the extra names of a file; at least one of them is not empty."""
    lacking, others = sorted(missing), sorted(extra)[:_MOST_COMPARED]
    if not lacking:
        return f"has the tensor {some(sorted(extra))}, which the {layout} layout does not."
    more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    found = ""
    if others:
        like = next(iter(difflib.get_close_matches(lacking[0], [name[:_LONGEST] for name in others], n=1, cutoff=0.0)))
        found = f"; of {len(extra)} that the layout has not, {_quoted(like)} is the nearest"
    return f"lacks the tensor {_quoted(lacking[0])} of the {layout} layout{more}{found}."


def some(names: list[str]) -> str:
    """The first of these names, quoted and cut short, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (", ".join(map(_quoted, names[:_MOST_NAMED])) or "nothing") + more


def _quoted(name: str) -> str:
    return repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...")
