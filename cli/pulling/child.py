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

from app.settings import Settings
from cli.pulling.asked import asked_of
from cli.pulling.store import Store
from cli.terminal import console
from model.hubs.cache import cache_folder

_MODULE = __name__.removesuffix(".pulling.child")


def with_bundle(chosen: Settings) -> Settings:
    """The settings with a bundle's folder in place of a model. Raises: as `bundle_of`."""
    bundle = bundle_of(chosen.bundle)
    return chosen if bundle == chosen.bundle else chosen.model_copy(update={"bundle": bundle})


def with_shadow(chosen: Settings) -> Settings:
    """The same for a second model, where there is one."""
    return chosen if chosen.shadow is None else chosen.model_copy(update={"shadow": bundle_of(chosen.shadow)})


def bundle_of(model: Path) -> Path:
    """A bundle's folder in place of a model; any other path as it is.

    Raises: CheckpointError for an unknown name; SystemExit with the exit code of a process that failed, which has said
    why.
    """
    asked = asked_of(model)
    if asked is None:
        return model
    made = Store(cache_folder()).find(asked)
    if made is None:
        return _pulled(asked.source)
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
