"""What a person names as a model, before anything of it is fetched or read. Knows no cache.

Imports little: it is asked at every start, mostly to find that a bundle is named.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.hubs import names

_CHECKPOINT = ("config.json", "model.safetensors")  # of a checkpoint, and of timm's layout
_BEST = "best"  # of a training run, beside the last epoch's
VERSION = 2  # of the conversion: another one makes every bundle anew


@dataclass(frozen=True)
class Asked:
    """A name of public weights, or a path to weights. `labels`: those that are given for it, in their order."""

    source: str
    labels: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """A file name that is another one for another source, other content of a path, labels or conversion.

        Raises: OSError where the path cannot be looked at.
        """
        content = [VERSION, self.source, self.labels, *_states(self.source)]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        return f"{re.sub('[^A-Za-z0-9._-]', '-', self.source)[-80:].lstrip('.')}-{digest}"  # bytes are what is limited


def asked_of(model: Path, labels: tuple[str, ...] | None = None) -> Asked | None:
    """What is to be made into a bundle; None for a bundle, for a folder of them, and for what is not there.

    Raises: CheckpointError for a name that is not known, with the nearest ones.
    """
    text = names.as_written(model)
    if names.find(text) is not None:
        return Asked(text, labels)
    is_file = model.suffix.lower() in names.WEIGHT_SUFFIXES and model.is_file()
    if is_file or all((model / name).is_file() for name in _CHECKPOINT):
        return Asked(str(model.absolute()), labels)
    return None


def _states(source: str) -> Iterator[tuple[str, int, int]]:
    """Of a path, what changes when something is written there: bytes and times of its files."""
    path = Path(source)
    if not path.is_absolute():
        return
    parts = (path,) if path.is_file() else (folder / name for folder in (path, path / _BEST) for name in _CHECKPOINT)
    for part in parts:
        if part.exists():
            yield str(part), part.stat().st_size, part.stat().st_mtime_ns
