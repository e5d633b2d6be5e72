"""Heads on several frozen networks, fitted to the same pictures, judged alike. Writes nothing but embeddings."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import MixerError
from model.heads.gathering import expect_classes, gather
from model.heads.learning import learn
from model.heads.pictures import Picture, evenly
from model.heads.saying import class_counts, findings
from model.heads.start import FrozenStart, open_frozen
from model.network.mixer import num_parameters
from model.recipe import balanced
from model.training.options import TrainOptions
from model.training.run_config import TrainCallbacks

_TIMED = 32  # pictures


@dataclass(frozen=True)
class Compared:
    """One network's row. top1: a fraction, of num_pictures; taken_s: with the pictures that it had not seen before.

    images_per_s: how many it embeds here, in batches of 32, without decoding.
    """

    source: str
    top1: float
    num_pictures: int
    judged_by: str
    taken_s: float
    num_parameters: int
    image_size: int
    images_per_s: float


@dataclass(frozen=True)
class Failed:
    """A network that could not be had, and why, in one line."""

    source: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """rows: best first. failed: the others, in the order in which they were named."""

    rows: tuple[Compared, ...]
    failed: tuple[Failed, ...] = ()


def compare(
    data: Path,
    sources: Sequence[str],
    callbacks: TrainCallbacks,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """A row for each network. What is found about the pictures is told once.

    Raises: MixerError of what is wrong with the pictures; a network that cannot be had ends nothing.
    """
    rows: list[Compared] = []
    failed: list[Failed] = []
    for source in sources:
        options = TrainOptions(data=data, init=source, freeze=True)
        try:
            start = open_frozen(options, callbacks)
        except MixerError as error:
            failed.append(Failed(source, str(error)))
            continue
        began = clock()
        whole, listed = gather(start, options, options.chosen_recipe(), callbacks)
        expect_classes(whole, listed, data)
        if not rows:
            callbacks.on_findings(findings(whole, listed))
        judged = learn(whole, balanced(options.chosen_recipe(), (), class_counts(whole)))
        taken, config = clock() - began, start.model.config
        found = judged.evaluation
        rows.append(
            Compared(
                source,
                found.top1,
                found.num_pictures,
                judged.judged_by,
                taken,
                num_parameters(config),
                config.image_size,
                _images_per_s(start, listed.train, clock),
            )
        )
    return Comparison(tuple(sorted(rows, key=lambda row: -row.top1)), tuple(failed))


def _images_per_s(start: FrozenStart, pictures: Sequence[Picture], clock: Callable[[], float]) -> float:
    pixels = np.repeat(evenly(pictures, 1)[0].read()[np.newaxis], _TIMED, axis=0)
    start.trunk.embed(pixels)  # allocates
    began = clock()
    start.trunk.embed(pixels)
    return _TIMED / max(clock() - began, 1e-9)
