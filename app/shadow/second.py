"""The second model of the settings: one of those that are served, or a bundle of its own, which serves nothing else.

Knows how it is opened, probed and reloaded, and not what is done with it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import BadSettings, EngineError, NotReady, QueueFull
from app.serving.bundles import find_bundles, is_one
from app.serving.canary import failure_of
from app.serving.loading import load_all
from app.serving.registry import Model, Models
from app.serving.reload import Source

log = logging.getLogger("mixer.shadow")


@dataclass(frozen=True)
class Second:
    """`model`: as it is now. `apart`: where one comes from that is not served itself; else `named`: one that is."""

    model: Callable[[], Model | None]
    apart: Source | None = None
    named: str = ""

    def load(self, served: Models) -> None:
        """Open the one apart; it has to be another than the one that answers. Raises: BadSettings, EngineError."""
        if self.apart is None:
            if served.asked(None).name == self.named:
                raise BadSettings(f"MIXER_SHADOW is {self.named}, which answers already; expected another bundle.")
            return
        folder = self.apart.folder
        if not is_one(folder) and len(find_bundles(folder)) != 1:
            raise BadSettings(f"MIXER_SHADOW is {folder}, a folder of several bundles; expected one.")
        load_all(folder, self.apart.models, self.apart.model_factory, default="", at_once=1)

    def stuck_s(self) -> float:
        """As Models.stuck_s, of the one apart."""
        return 0.0 if self.apart is None else self.apart.models.stuck_s()

    async def watch(self, interval_s: float, timeout_s: float) -> None:
        """Have the canary of the one apart tried, at once and again and again: it does nothing where that fails."""
        while self.apart is not None:
            for model in self.apart.models:
                await _probe(model, timeout_s)
            await asyncio.sleep(interval_s)

    async def drain(self, timeout_s: float) -> None:
        """As Models.drain, of the one apart."""
        if self.apart is not None:
            await self.apart.models.drain(timeout_s)

    def close(self) -> None:
        """As Models.close, of the one apart."""
        if self.apart is not None:
            self.apart.models.close()


def is_served(shadow: Path, bundle: Path) -> bool:
    """Whether the second model is named as one of the bundles of a folder, which are served anyway."""
    if is_one(bundle) or len(shadow.parts) != 1:
        return False
    try:
        return str(shadow) in find_bundles(bundle)
    except EngineError:
        return False


async def _probe(model: Model, timeout_s: float) -> None:
    before = model.failure
    try:
        failure = await failure_of(model.classifier, timeout_s=timeout_s, lost_provider=model.lost_provider)
    except QueueFull:
        return
    if failure is not None and failure.reason == NotReady.code:
        return  # it is closing, which proves nothing either
    model.failure = failure
    if failure is not None and failure != before:
        log.error("the shadow %s rests: %s", model.name, failure.words)


def name_apart(name: str, served: Models) -> str:
    """What it is called, which none of those served is."""
    return name if served.get(name) is None else f"{name}-shadow"
