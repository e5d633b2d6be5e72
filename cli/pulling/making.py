"""A model as it is asked for -> its bundle in the cache: fetched, converted and checked, once. Knows no options."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from cli.pulling import conversion, self_check
from cli.pulling.asked import Asked
from cli.pulling.store import Made, Store
from model.hubs import source as hub_source
from model.hubs.source import Weights
from model.hubs.transfer import Progress

Convert = Callable[[Weights, tuple[str, ...] | None, Path], list[str]]
Check = Callable[[Path], self_check.Outcome]
Say = Callable[[str], None]
Bar = Callable[[str], AbstractContextManager[Progress]]


def make(
    asked: Asked,
    store: Store,
    say: Say,
    bar: Bar,
    *,
    again: bool = False,
    convert: Convert = conversion.convert,
    check: Check = self_check.check,
) -> Made:
    """The bundle of a model; the one in the store, if it is there. `again`: unless its host has newer weights.

    say: takes lines that tell what happens. bar: shows how far the download is.
    Raises: MixerError, in one line.
    """
    if not again and (made := store.find(asked)) is not None:
        return made
    waiting = f"{asked.source} is being made by another process; waiting for it."
    with store.making(asked, lambda: say(waiting)) as folder:
        if not again and (made := store.find(asked)) is not None:
            return made
        found = _fetched(asked, bar, again=again)
        key, name = conversion.key_of(found, asked.labels), _name(found)
        if (made := store.find(asked)) is not None and made.bundle.parent.name == key:
            return made
        say(f"converting {asked.source}")
        for line in convert(found, asked.labels, folder / key / name):
            say(line)
        outcome = check(folder / key / name)
        return store.put(asked, key, Made(folder / key / name, outcome.passed, outcome.line))


def _fetched(asked: Asked, bar: Bar, *, again: bool) -> Weights:
    with bar(f"fetching {asked.source}") as progress:
        return hub_source.fetch(asked.source, progress=progress, again=again)


def _name(found: Weights) -> str:
    """What the bundle is called, and the model where it is served."""
    if found.remote is not None:
        return Path(found.remote.filename).stem
    return found.path.name if found.path.is_dir() else found.path.stem
