"""Opens what keeps pictures, as the settings say; or nothing. Knows no other settings."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.collection.collection import Collection
from app.collection.folder import Folder, FolderLimits
from app.collection.rules import Rules
from app.errors import BadSettings
from app.system.spelling import nearest
from app.telemetry.metrics import Metrics

log = logging.getLogger("mixer.collection")


@dataclass(frozen=True)
class CollectionOptions:
    """The settings of these names; `collect_classes` separated by commas. No folder: nothing is kept."""

    collect_dir: Path | None
    collect_share: float
    collect_below_probability: float
    collect_classes: str
    collect_uncertain: bool
    collect_max_images: int
    collect_max_bytes: int
    collect_max_days: int

    @property
    def classes(self) -> frozenset[str]:
        """The labels in `collect_classes`."""
        return frozenset(name.strip() for name in self.collect_classes.split(",") if name.strip())


def open_collection(options: CollectionOptions, metrics: Metrics) -> Collection | None:
    """None where nothing is kept. Raises BadSettings for a folder that cannot be one."""
    if options.collect_dir is None:
        return None
    limits = FolderLimits(options.collect_max_images, options.collect_max_bytes, options.collect_max_days)
    folder = Folder(options.collect_dir, limits)
    try:
        folder.make()
    except OSError as error:
        words = f"{folder.path}: {error.strerror}"
        raise BadSettings(f"MIXER_COLLECT_DIR is {words}; expected a folder to write to.") from error
    rules = Rules(
        options.collect_share, options.collect_below_probability, options.classes, options.collect_uncertain
    )  # fmt: skip
    return Collection(rules, folder, metrics)


def log_unknown_classes(options: CollectionOptions, labels: Iterable[str]) -> None:
    """Warn of classes that no model has: no picture would ever be kept by them."""
    known = set(labels)
    for name in sorted(options.classes - known):
        meant = nearest(name, known)
        hint = "" if meant is None else f"; did you mean {meant}?"
        log.warning("MIXER_COLLECT_CLASSES has %r, which no model has as a label%s", name, hint)
