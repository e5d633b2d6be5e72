"""The curves of a training run as one image file. Knows nothing of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.network.checkpoint_folder import write_atomically

CURVES = "curves.png"


def write_curves(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draw the epochs of metrics.jsonl, losses beside validation top-1, into `folder`/curves.png.

    Raises: OSError where it cannot be written.
    """
    draw_curves(rows, "epoch", {"training": "train_loss", "validation": "val_loss"}, folder)


def draw_curves(rows: Sequence[Mapping[str, Any]], along: str, losses: Mapping[str, str], folder: Path) -> None:
    """Draw rows of a log: these losses, by what they are called in the diagram, beside val_top1, over `along`.

    Raises: OSError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- slow to load, needed once a run
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, accuracy = figure.subplots(1, 2)
    places = [row[along] for row in rows]
    for label, name in losses.items():
        left.plot(places, [row[name] for row in rows], marker=".", label=label)
    left.set(xlabel=along, ylabel="loss", title="Loss")
    left.legend()
    accuracy.plot(places, [row["val_top1"] * 100 for row in rows], marker=".", color="tab:green")
    accuracy.set(xlabel=along, ylabel="%", title="Validation top-1")
    accuracy.grid(visible=True, alpha=0.3)
    FigureCanvasAgg(figure)
    write_atomically(folder / CURVES, lambda path: figure.savefig(path, format="png", dpi=110))
