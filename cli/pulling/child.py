"""The bundle of the settings, made where it is a model's name or weights: in a process of its own.

That process may load torch, and takes its memory with it when it ends. Where a bundle is named, or one was made before,
nothing is started. Knows nothing of fetching.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from app import settings
from app.settings import Settings
from cli.pulling.asked import Asked, asked_of
from cli.pulling.store import Store
from cli.terminal import console
from model.errors import CheckpointError
from model.hubs.cache import cache_folder

_MODULE = __name__.removesuffix(".pulling.child")


BundleOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Bundle folder, .onnx file or model (mixer pull). Default: MIXER_BUNDLE.")
]


def settings_with(bundle: Path | None) -> Settings:
    """The service's settings, with --bundle in them where it is given. Raises: BadSettings, and as `bundle_of`."""
    chosen = settings.load()
    return with_bundle(chosen if bundle is None else chosen.model_copy(update={"bundle": bundle}))


def with_bundle(chosen: Settings) -> Settings:
    """The settings with a bundle's folder in place of a model. Raises: as `bundle_of`."""
    bundle = bundle_of(chosen.bundle)
    return chosen if bundle == chosen.bundle else chosen.model_copy(update={"bundle": bundle})


def with_shadow(chosen: Settings) -> Settings:
    """The same for a second model, where there is one."""
    return chosen if chosen.shadow is None else chosen.model_copy(update={"shadow": bundle_of(chosen.shadow)})


def bundle_of(model: Path) -> Path:
    """A bundle's folder in place of a model; any other path as it is.

    One in the cache is held from then on: mixer pull --prune leaves it there.

    Raises: CheckpointError for an unknown name, and for a bundle that is removed just now; SystemExit with the exit
    code of a process that failed, which has said why.
    """
    store, asked = Store(cache_folder()), asked_of(model)
    bundle = model if asked is None else _found(store, asked) or _pulled(asked.source)
    if not store.hold(bundle):
        raise CheckpointError(f"{bundle} was removed from the cache just now; give the command again.")
    return bundle


def _found(store: Store, asked: Asked) -> Path | None:
    """The bundle that was made before; tells where its check had failed."""
    made = store.find(asked)
    if made is None:
        return None
    if not made.passed:
        console.print(f"warning: {asked.source}: {made.told}")
    return made.bundle


def _pulled(source: str) -> Path:
    command = [sys.executable, "-P", "-m", _MODULE, "pull", source]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- this very program
    with process, _ending_with(process):
        told, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(process.returncode if process.returncode > 0 else 128 - process.returncode)
    return Path(told.strip().splitlines()[-1])


@contextmanager
def _ending_with(process: "subprocess.Popen[str]") -> Iterator[None]:
    """While inside, SIGTERM ends the other process, and then this one. SIGINT of a terminal goes to both anyway."""

    def end(number: int, _: object) -> None:
        process.terminate()
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
