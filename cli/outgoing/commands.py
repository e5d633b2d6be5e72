"""`mixer export --timm`. Torch is loaded when it runs, and not before."""

from pathlib import Path

import typer

from cli.terminal import console, require_extra


def export_timm(source: Path, folder: Path, prose: Path) -> None:
    """Write the checkpoint folder `source` in timm's layout, and tell what timm does otherwise.

    prose: the folder whose card.toml goes into the card.
    """
    require_extra("torch")
    from export.outgoing.timm_folder import write_timm  # noqa: PLC0415
    from export.outgoing.timm_layout import ENTRY_POINT, needs_entry_point, transform_notes  # noqa: PLC0415
    from model.network import checkpoint  # noqa: PLC0415

    loaded = checkpoint.load(source)
    write_timm(loaded, prose, folder)
    if needs_entry_point(loaded.model.config):
        console.print(f"timm has no entry point for this network: import {folder / ENTRY_POINT} before it is loaded")
    for note in transform_notes(loaded.spec):
        console.print(f"note: {note}")
    typer.echo(f'{folder}: timm.create_model("local-dir:{folder}", pretrained=True)')
