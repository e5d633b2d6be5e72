"""`mixer pull --prune`: bundles that nobody has begun to use for long, out of the cache. Downloads stay where they are.

A bundle that a process uses is held (store.py), and stays. Knows no options.
"""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cli.pulling.store import Store
from model.errors import CheckpointError
from model.hubs.lock import alone_unless_busy, unless_held

_DAY_S = 86_400.0
_GOING = ".going-"  # what is removed; what a kill leaves there goes the next time
_MAKING = ".making-"

Outcome = Literal["removed", "kept", "in use"]


@dataclass(frozen=True)
class Looked:
    """models/KEY, the names that stand for it, its size, since when nobody began to use it, and what became of it."""

    folder: Path
    sources: tuple[str, ...]
    num_bytes: int
    unused_days: float
    outcome: Outcome


def prune(store: Store, most_days: float, now: Callable[[], float] = time.time) -> list[Looked]:
    """Remove bundles that nobody has begun to use for `most_days`, and what killed processes have left.

    Raises: CheckpointError where something cannot be removed.
    """
    if not store.models.is_dir():
        return []
    try:
        _remove_unfinished(store)
        entries = _entries(store)
        folders = [path for path in sorted(store.models.iterdir()) if path != store.asked and path.name[0] != "."]
        return [_looked_at(folder, entries[folder], most_days, now()) for folder in folders]
    except OSError as error:
        raise CheckpointError(f"{error.filename or store.models} cannot be removed: {error.strerror}.") from error


def _looked_at(folder: Path, entries: Sequence[Path], most_days: float, now: float) -> Looked:
    sources = tuple(str(_content(entry)["source"]) for entry in entries)
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    days = max(0.0, (now - folder.stat().st_mtime) / _DAY_S)
    outcome: Outcome = "kept"
    if days >= most_days:
        with unless_held(folder) as is_free:
            outcome = "removed" if is_free else "in use"
            if is_free:
                going = folder.rename(folder.with_name(f"{_GOING}{folder.name}"))  # at once, for whoever looks for it
                for entry in entries:
                    entry.unlink(missing_ok=True)
                shutil.rmtree(going)
    return Looked(folder, sources, num_bytes, days, outcome)


def _entries(store: Store) -> Mapping[Path, list[Path]]:
    """The files models/asked/X.json by the folder models/KEY that they name."""
    found: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in sorted(store.asked.glob("*.json")):
        content = _content(path)
        if content:
            found[store.models / str(content["bundle"]).partition("/")[0]].append(path)
    return found


def _content(entry: Path) -> Mapping[str, object]:
    """Nothing where it cannot be read; the next one to ask writes it anew."""
    try:
        content = json.loads(entry.read_text(encoding="utf-8"))
        return {"source": content["source"], "bundle": content["bundle"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remove_unfinished(store: Store) -> None:
    """What was half made or half removed when its process was killed."""
    for left in store.models.glob(f"{_GOING}*"):
        shutil.rmtree(left)
    for left in store.models.glob(f"{_MAKING}*"):
        with alone_unless_busy(store.asked / f"{left.name.removeprefix(_MAKING)}.lock") as is_alone:
            if is_alone:
                shutil.rmtree(left)
