"""Whether a bundle that was just made answers to photographs as it should: a cat is a cat. Knows nothing of weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.engine.engine import EngineOptions, open_engine
from app.engine.runners import Patches
from app.errors import EngineError
from model.preprocess import to_patches, to_pixels
from model.spec import ModelSpec

Logits = NDArray[np.float32]

PICTURES = tuple(Path(__file__).with_name("pictures") / name for name in ("cat.jpg", "cup.jpg"))
_CATS = frozenset({"tabby", "tiger cat", "persian cat", "siamese cat", "egyptian cat"})  # of ImageNet-1k
_TOP = 5
_LEAST_DIFFERENCE = 1e-4  # of the logits' range
_PERHAPS = "Its labels, its normalization or the file itself may be wrong."


@dataclass(frozen=True)
class Outcome:
    """Whether a bundle passed, and why, in one line."""

    passed: bool
    line: str


def check(bundle: Path) -> Outcome:
    """What the graph that a CPU would serve answers to the pictures."""
    try:
        engine = open_engine(EngineOptions(bundle, provider="cpu", instances=1, max_batch_size=len(PICTURES)))
        logits, _ = engine.run([_seen(path, engine.spec) for path in PICTURES])
    except EngineError as error:
        return Outcome(False, f"self-check failed: {error}")
    return judge(logits, engine.spec.labels)


def judge(logits: Logits, labels: Sequence[str]) -> Outcome:
    """What logits [2, K], of the cat and of the cup, say of a model with these labels."""
    if not np.isfinite(logits).all():
        return Outcome(False, f"self-check failed: not all logits are finite numbers. {_PERHAPS}")
    difference = float(np.abs(logits[0] - logits[1]).max())
    if difference <= _LEAST_DIFFERENCE * max(float(np.ptp(logits)), 1e-30):
        return Outcome(False, f"self-check failed: a cat and a cup get the same answer. {_PERHAPS}")
    if not {_word(label) for label in labels} >= _CATS:
        return Outcome(True, "self-check passed: finite logits, and different ones for two pictures.")
    best = [labels[index] for index in np.argsort(-logits[0])[:_TOP]]
    if _CATS.isdisjoint(map(_word, best)):
        return Outcome(False, f"self-check failed: a cat is {', '.join(map(repr, best))}; expected a cat. {_PERHAPS}")
    cup = labels[int(logits[1].argmax())]
    return Outcome(True, f"self-check passed: a cat is {best[0]!r}, a cup of coffee is {cup!r}.")


def _word(label: str) -> str:
    """The first of a label's synonyms: "tabby, tabby cat" -> "tabby"."""
    return label.split(",", maxsplit=1)[0].strip().casefold()


def _seen(path: Path, spec: ModelSpec) -> Patches:
    """A picture as the service sees it: uint8 [S, P*P*C]."""
    with Image.open(path) as image:
        return to_patches(to_pixels(image, spec.channels), spec)
