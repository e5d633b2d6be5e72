"""What of a model goes to a hub, collected in a folder: timm's layout, ONNX graphs and the card. Knows no hub.

A bundle that is signed goes as it is, byte for byte: its signature covers every file, and no other.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from export.bundle import publish
from export.card.facts import CardFacts, read_graphs
from export.card.prose import bring_prose, read_prose
from export.card.writing import README, write_card
from export.direct.convert import open_checkpoint
from export.outgoing.timm_card import timm_readme, with_timm
from export.outgoing.timm_layout import write_layout
from export.target import graphs_in
from model.errors import ExportError
from model.network import checkpoint as checkpoints
from model.network.checkpoint import Checkpoint
from model.network.checkpoint_folder import CONFIG, WEIGHTS
from model.network.run_folder import better
from model.spec import ModelSpec

SIGNATURE = "model.sig"
CHECKPOINT = "checkpoint"  # the folder in a bundle that holds what its graphs were made of
_BESIDE = ("README.md", "card.json", "card.toml", "labels.txt", "LICENSE", "LICENSE.txt", "LICENSE.md")
_CHARTS = "charts"


def collect(source: Path, folder: Path) -> None:
    """Fill `folder`, which is empty, with what is pushed of `source`: a bundle, or a checkpoint.

    Of a checkpoint, of its best epoch where it has one, graphs are made, and proved, first.

    Raises: ExportError, CheckpointError.
    """
    if graphs_in(source):
        _collect_bundle(source, folder)
    elif (source / CONFIG).is_file():
        publish(open_checkpoint(better(source)), folder)
        bring_prose(source, folder)
        write_card(folder, CardFacts(read_graphs(folder)))
        _add_timm(checkpoints.load(better(source)), folder)
    else:
        raise ExportError(f"{source} is neither a bundle nor a checkpoint; expected a folder with *.onnx or {CONFIG}.")


def _collect_bundle(bundle: Path, folder: Path) -> None:
    try:
        if (bundle / SIGNATURE).is_file():
            _expect_no_links(bundle)
            shutil.copytree(bundle, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git*"))
            return
        for path in _files_of(bundle):
            shutil.copyfile(path, folder / path.name)
        if (bundle / _CHARTS).is_dir():
            shutil.copytree(bundle / _CHARTS, folder / _CHARTS)
    except OSError as error:
        raise ExportError(f"{bundle} cannot be copied: {error}") from error
    if (bundle / CHECKPOINT / CONFIG).is_file():
        loaded = checkpoints.load(bundle / CHECKPOINT)
        _add_timm(replace(loaded, spec=_served_spec(bundle, loaded.spec)), folder)


def _served_spec(bundle: Path, spec: ModelSpec) -> ModelSpec:
    """What the graphs say, as they may have got a reference since; the checkpoint's where they are of other classes."""
    served = read_graphs(bundle)[0].spec
    return served if (served.labels, served.image_size) == (spec.labels, spec.image_size) else spec


def _expect_no_links(bundle: Path) -> None:
    """Raises ExportError: what a link leads to is not signed, and may be anything on this machine."""
    for path in bundle.rglob("*"):
        if path.is_symlink():
            raise ExportError(f"{path} is a link, in a bundle that is signed; expected files alone.")


def _files_of(bundle: Path) -> Iterator[Path]:
    yield from graphs_in(bundle).values()
    yield from (bundle / name for name in _BESIDE if (bundle / name).is_file())


def _add_timm(loaded: Checkpoint, folder: Path) -> None:
    """Put timm's layout beside the graphs, and tell of it in the card; not for a head that timm has not."""
    if loaded.model.config.head_hidden_dim:
        return
    write_layout(loaded, folder)
    card = folder / README
    if card.is_file():
        text = with_timm(card.read_text(encoding="utf-8"), loaded)
    else:
        text = timm_readme(loaded, read_prose(folder), (folder / WEIGHTS).stat().st_size, read_graphs(folder))
    card.write_text(text, encoding="utf-8")
