"""`mixer train DATA --init MODEL --freeze`: a head on a frozen network, written as an ordinary checkpoint.

Connects the rest of this room. Knows nothing of the command line.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.errors import DataError, TrainingError
from model.heads import stored
from model.heads.folds import Head
from model.heads.gathering import expect_classes, gather, merged
from model.heads.learning import Judged, learn
from model.heads.pictures import Listing, Picture, evenly
from model.heads.saying import choices, class_counts, findings
from model.heads.start import FrozenStart, open_frozen
from model.heads.trunk import trunk_digest
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.network.provenance import versions
from model.network.run_folder import RESUME, expect_run_folder
from model.network.transfer import with_new_head
from model.preprocess import Pixels
from model.recipe import Recipe, balanced
from model.training.options import TrainOptions
from model.training.run_config import TrainCallbacks
from model.training.start.network import spec_of

_NUM_PARITY_IMAGES = 32


@dataclass(frozen=True)
class Learned:
    """A head's checkpoint, how it did, and DATA's pictures; those of an earlier run are not among them."""

    checkpoint: checkpoint.Checkpoint
    judged: Judged
    pictures: Listing


def freeze_from(options: TrainOptions, callbacks: TrainCallbacks) -> Learned:
    """Embed, fit, judge and write. Raises MixerError of every kind; nothing is written then."""
    expect_run_folder(options.out, options.data, over_head=True)
    if (options.out / RESUME).exists():
        raise TrainingError(f"{options.out} holds a run of all weights; expected another --out for a --freeze.")
    start = open_frozen(options, callbacks)
    earlier = stored.read(Path(start.source), start.key, start.base.spec.labels) if options.add else None
    new, listed = gather(start, options, options.chosen_recipe(), callbacks)
    whole = new if earlier is None else merged(earlier, new)
    expect_classes(whole, listed, options.data)
    callbacks.on_findings(findings(whole, listed))
    recipe = balanced(options.chosen_recipe(), options.model_fields_set, class_counts(whole))
    hidden = hidden_dim(options, start)
    callbacks.on_choices(choices(start, whole, recipe, hidden))
    judged = learn(whole, recipe, hidden, start.model.config.gelu)
    made = _checkpoint(start, options, recipe, whole, judged, listed)
    stored.write(whole, options.out)  # first: a kill between the two leaves no class without its embeddings
    checkpoint.save(made, options.out)
    return Learned(made, judged, listed)


def with_head(model: MlpMixer, head: Head) -> MlpMixer:
    """The network with this head in place of its own."""
    tensors = {name: torch.from_numpy(array) for name, array in head.tensors().items()}
    renewed = with_new_head(model, len(tensors["head.bias"]), head.hidden_dim).eval()
    renewed.load_state_dict(renewed.state_dict() | tensors)
    return renewed


def hidden_dim(options: TrainOptions, start: FrozenStart) -> int:
    """How wide the head's hidden layer is: as asked for, or with --add as the checkpoint has it; 0 for none."""
    if options.add and "hidden" not in options.model_fields_set:
        return start.model.config.head_hidden_dim
    return options.hidden


def pixels_of(pictures: list[Picture]) -> tuple[Pixels | None, list[Picture]]:
    """uint8 [n, H, W, C] of those that can be read, and which these are; None where none can."""
    read = []
    for picture in pictures:
        try:
            read.append((picture.read(), picture))
        except DataError:
            continue  # told when it was to be embedded
    return (np.stack([pixels for pixels, _ in read]) if read else None), [picture for _, picture in read]


def _checkpoint(
    start: FrozenStart, options: TrainOptions, recipe: Recipe, whole: stored.Stored, judged: Judged, listed: Listing
) -> checkpoint.Checkpoint:
    network = with_head(start.model, judged.fitted.head)
    spec = spec_of(options, network.config, start.seen, whole.labels, start.base)
    spec = spec.model_copy(update={"metrics": judged.evaluation.metrics(judged.judged_by)})
    training: dict[str, Any] = {
        "recipe": recipe.model_dump(),
        "frozen": {"network": start.source, "trunk": trunk_digest(network), "weight_decay": judged.fitted.decay},
        "versions": versions(),
    }
    images, _ = pixels_of(evenly(listed.val or listed.train, _NUM_PARITY_IMAGES))
    return checkpoint.Checkpoint(network, judged.calibration.completed(spec), training, images)
