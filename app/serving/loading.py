"""Models of bundles: how one is made, and all of them at the start. Knows nothing of how bundles are opened."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from app.engine.engine import Engine
from app.engine.sessions import Sessions
from app.errors import BadSettings
from app.serving.bundles import Opened, find_bundles, open_all, state_of
from app.serving.cards import Card, read_card
from app.serving.registry import Model, Models
from app.system.allocator import malloc_trim


class ModelFactory(NamedTuple):
    """How a model is made of a bundle: `open` takes long, in a thread; `build` does not, in the event loop.

    `read_card`: the card of a bundle that is open already, as one of `open` is read.
    """

    open: Callable[[Path], Opened]
    build: Callable[[str, Opened], Model]
    read_card: Callable[[Path], Card | None] = read_card

    def instead_of_opening(self, engine: Engine) -> "ModelFactory":
        """The same over an engine that is open: that of the only bundle."""
        return self._replace(open=lambda bundle: Opened(state_of(bundle), engine, Sessions(), read_card(bundle)))


def load_all(
    folder: Path, models: Models, model_factory: ModelFactory, *, model_name: str = "", default: str, at_once: int
) -> None:
    """Every bundle, before anything is served. Raises StartError: EngineError, or BadSettings without `default`."""
    bundles = find_bundles(folder, model_name)
    expect_default(default, bundles)
    opened = open_all(model_factory.open, list(bundles.values()), at_once)
    for name, one in zip(bundles, opened, strict=True):
        models.take(model_factory.build(name, one))
    if len(bundles) > 1:
        malloc_trim()  # what opening has left: a third of what a bundle in fp32 takes


def expect_default(default: str, found: Mapping[str, Path]) -> None:
    """Raises BadSettings where the default is not among the bundles; none is always."""
    if default and default not in found:
        raise BadSettings(f"MIXER_DEFAULT_MODEL is {default}; the bundles are {', '.join(found)}.")
