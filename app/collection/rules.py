"""Which answers' pictures are kept. Knows nothing of where."""

from collections.abc import Callable
from dataclasses import dataclass
from random import random

SHARE, PROBABILITY, CLASS, UNCERTAIN = "share", "below_probability", "class", "uncertain"


@dataclass(frozen=True)
class Rules:
    """Any of these is enough. `share`: of all pictures, at random. `chance`: uniform in [0, 1)."""

    share: float = 0.0
    below_probability: float = 0.0
    classes: frozenset[str] = frozenset()
    uncertain: bool = False
    chance: Callable[[], float] = random

    def choosing(self, label: str, probability: float, *, uncertain: bool) -> list[str]:
        """The rules that choose a picture with this best label; none where it is not to be kept."""
        fits = (
            (SHARE, self.share > 0 and self.chance() < self.share),
            (PROBABILITY, probability < self.below_probability),
            (CLASS, label in self.classes),
            (UNCERTAIN, self.uncertain and uncertain),
        )
        return [name for name, chooses in fits if chooses]
