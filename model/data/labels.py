"""Labels, and which class folder has which of them. Knows no pictures."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from model.data.layout import simplified
from model.data.scan import shown
from model.errors import DataError

IMAGENET_1K = Path(__file__).with_name("imagenet1k.txt")
_WORDNET_ID = re.compile(r"n\d{8}")
_MOST_NAMED = 5


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a text file, one a line. Raises DataError for a missing file, an empty line or a repeated label."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as labels, one a line: {error}") from error
    labels = tuple(line.strip() for line in lines)
    if not all(labels):
        raise DataError(f"{path} has an empty line at {labels.index('') + 1}; expected a label on each.")
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"{path} has the label {repeated!r} twice; expected each once.")
    return labels


def match(names: Sequence[str], labels: Sequence[str], folder: Path) -> dict[str, int]:
    """Which label each class folder of `folder` has: name -> index. All names must be labels, not the reverse.

    The thousand WordNet ids of ImageNet-1k stand for its thousand labels, which are in the order of the ids.

    Raises: DataError, naming some of the folders that are no labels, and labels that are written almost so.
    """
    indices = {unicodedata.normalize("NFC", label): index for index, label in enumerate(labels)}
    found = {name: indices.get(unicodedata.normalize("NFC", name), -1) for name in names}
    unknown = [name for name, index in found.items() if index < 0]
    if not unknown:
        return found
    if all(_WORDNET_ID.fullmatch(name) for name in names):
        return _by_wordnet_id(names, labels, folder)
    raise DataError(
        f"{shown(folder)} has {len(unknown)} class folder{'s' * (len(unknown) > 1)} that "
        f"{'are no labels' if len(unknown) > 1 else 'is no label'} of this model: {_some(unknown)}"
        f"{_hint(unknown, labels)}; expected some of {_some(labels)}."
    )


def _by_wordnet_id(names: Sequence[str], labels: Sequence[str], folder: Path) -> dict[str, int]:
    if len(set(names)) == len(labels) and tuple(labels) == read_labels(IMAGENET_1K):
        return {name: index for index, name in enumerate(sorted(names))}
    raise DataError(
        f"{shown(folder)} has {len(names)} class folders named by WordNet ids, such as {names[0]}; this model has "
        f"{len(labels)} labels in words. Expected folders named by its labels, all 1000 ids of ImageNet-1k for its "
        "1000 labels, or a model imported with --labels FILE, which names the ids one a line."
    )


def _hint(unknown: Sequence[str], labels: Sequence[str]) -> str:
    written = {simplified(label): label for label in labels}
    near = [(name, written[simplified(name)]) for name in unknown if simplified(name) in written]
    if not near:
        return ""
    return f"; {near[0][0]!r} would be the label {near[0][1]!r}, written exactly so"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ", ".join(map(repr, words[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
