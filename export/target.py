"""Whether an export may write to a folder, and what becomes of the graphs there. Knows nothing of their content."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from model.errors import ExportError
from model.spec import Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_MOST_NAMED = 5
_BESIDE = frozenset(
    {"readme.md", "readme.txt", "readme", "license", "license.txt", "license.md", "labels.txt"}
    | {"card.toml", "card.json"}
)


@dataclass(frozen=True)
class Earlier:
    """Graphs of an earlier export: replaced by a new one, or removed because they are of another network."""

    replaced: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()


def expect_bundle_folder(folder: Path) -> None:
    """Raises ExportError where `folder` is a file, or holds other things than a bundle does."""
    if not folder.is_dir():
        if folder.exists():
            raise ExportError(f"{folder} is a file; expected a folder to write the graphs to.")
        return
    if graphs_in(folder):
        return
    others = sorted(path.name for path in folder.iterdir() if not _may_be_there(path))
    if others:
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        raise ExportError(
            f"{folder} is no bundle and holds {', '.join(others[:_MOST_NAMED])}{more}; expected a new folder, an empty "
            "one or a bundle to replace."
        )


def graphs_in(folder: Path) -> dict[Precision, Path]:
    """The graphs in a folder by precision."""
    paths = {precision: folder / f"{precision}.onnx" for precision in PRECISIONS}
    return {precision: path for precision, path in paths.items() if path.is_file()}


def clear_others(folder: Path, written: Collection[Precision], before: Collection[Precision]) -> Earlier:
    """Remove the graphs of precisions that were not written. `before`: the graphs before the export."""
    removed = [folder / f"{precision}.onnx" for precision in before if precision not in written]
    for path in removed:
        path.unlink(missing_ok=True)
    return Earlier(tuple(folder / f"{p}.onnx" for p in before if p in written), tuple(removed))


def _may_be_there(path: Path) -> bool:
    return path.name.startswith(".") or (path.is_file() and path.name.lower() in _BESIDE)
