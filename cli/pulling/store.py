"""Bundles that were made of models, in a cache folder: found, made by one process at a time, complete or not there.

    models/KEY/NAME/        a bundle; KEY is of its weights, what is known of them, its labels and the conversion
    models/asked/X.json     which of them a name or a path stands for
    models/asked/X.lock     held while that is made
    models/.making-X/       where it is made; what a kill leaves there is removed by the next one

A folder models/KEY is held by every process that uses a bundle in it, and says by its time of change when one last
began to. Knows nothing of weights.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cli.pulling.asked import Asked
from model.errors import CheckpointError
from model.hubs.cache import write_failure
from model.hubs.lock import alone_with, hold


@dataclass(frozen=True)
class Made:
    """A bundle, and what its self-check found: `passed`, and a line that tells."""

    bundle: Path
    passed: bool
    told: str


class Store:
    """The bundles below a cache folder."""

    def __init__(self, cache: Path) -> None:
        self._models = cache / "models"
        self._asked = self._models / "asked"

    @property
    def models(self) -> Path:
        """The folder of all bundles."""
        return self._models

    @property
    def asked(self) -> Path:
        """The folder that says which of them a name stands for."""
        return self._asked

    def hold(self, bundle: Path) -> bool:
        """Keep a bundle of the store from being removed, as long as this process lives; False where it is gone.

        It may be named by a link, by its graph or by the folder of its key. Any other bundle stays as it is.
        """
        whole, models = (Path(os.path.realpath(path)) for path in (bundle, self._models))  # of a ring of links, too
        key = next((folder for folder in (whole, *whole.parents) if folder.parent == models), None)
        if key is None:
            return True
        if hold(key) is None:
            return False
        with suppress(OSError):  # of another user
            os.utime(key)
        return bundle.exists()

    def find(self, asked: Asked) -> Made | None:
        """The bundle that was made of it, if it is there."""
        try:
            content = json.loads((self._asked / f"{asked.key}.json").read_text(encoding="utf-8"))
            made = Made(self._models / content["bundle"], content["passed"], content["told"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return made if made.bundle.is_dir() else None

    @contextmanager
    def making(self, asked: Asked, waiting: Callable[[], None]) -> Iterator[Path]:
        """An empty folder to make it in, while no other process makes the same. `waiting`: called where one does.

        Raises: CheckpointError where the cache cannot be written.
        """
        folder = self._models / f".making-{asked.key}"
        try:
            self._asked.mkdir(parents=True, exist_ok=True)
            with alone_with(self._asked / f"{asked.key}.lock", waiting):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise CheckpointError(write_failure(self._models, error)) from error

    def put(self, asked: Asked, key: str, made: Made) -> Made:
        """Move a finished bundle out of its folder, and remember what it is of. Raises: OSError."""
        place = self._models / key / made.bundle.name
        place.parent.mkdir(exist_ok=True)  # the same weights by another name may be there, and served from there
        try:
            made.bundle.rename(place)
        except OSError:
            if not place.is_dir():
                raise
        content = {"source": asked.source, "bundle": f"{key}/{place.name}", "passed": made.passed, "told": made.told}
        partial = self._asked / f".{asked.key}.json"  # read by other users, too: of no mode of its own
        partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
        partial.replace(self._asked / f"{asked.key}.json")
        return Made(place, made.passed, made.told)
