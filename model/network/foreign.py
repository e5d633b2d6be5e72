"""Foreign weights with their spec: Google's .npz and timm's .safetensors, of any sizes, read without torch.

Knows the names of public weights, and leaves fetching them to download.py and what torch.save wrote to zoo.py.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors.numpy import save_file

from model.data.layout import IMAGENET_1K, read_labels
from model.errors import CheckpointError
from model.hubs.address import without_user
from model.hubs.remote import PAPER_FIT, Remote
from model.network.checkpoint_folder import Description, first_line, save_folder
from model.spec import ModelSpec, Source
from model.weights.config import MixerConfig, variant_name
from model.weights.layouts import Layout
from model.weights.mixer_weights import MixerWeights, read_weights


@dataclass(frozen=True)
class ForeignModel:
    """Weights that were read from a file of another code base, and the spec that follows."""

    weights: MixerWeights
    spec: ModelSpec


def read(path: Path, labels: tuple[str, ...] | None = None, remote: Remote | None = None) -> ForeignModel:
    """Read a foreign weight file. `labels` default to ImageNet-1k's words where `remote` has its classes, else numbers.

    `remote` is where the file was fetched from, and says how its pictures are scaled and resized; without it
    these follow from the layout.

    Raises: CheckpointError, naming the file and the tensor that is missing, extra or misshapen.
    """
    return described(path, *read_weights(path), labels, remote)


def save(model: ForeignModel, folder: Path) -> None:
    """Write it as a checkpoint folder. Raises CheckpointError where it cannot be read, or the folder not be written."""
    tensors = {name: tensor.read() for name, tensor in model.weights.tensors.items()}
    description = Description(model.weights.config, model.spec)
    save_folder(description, folder, lambda path: save_file(tensors, path))


def described(
    path: Path, weights: MixerWeights, layout: Layout, labels: tuple[str, ...] | None, remote: Remote | None
) -> ForeignModel:
    """The weights of a file with their spec, as `read` has it. Raises CheckpointError where the labels do not fit."""
    if remote is not None:
        weights = _prepared(path, weights, remote)
    try:
        return ForeignModel(weights, _spec(path, layout, weights.config, labels, remote))
    except ValidationError as error:  # a file's name may be no text
        raise CheckpointError(f"{path} cannot be described: {first_line(error)}") from error


def _prepared(path: Path, weights: MixerWeights, remote: Remote) -> MixerWeights:
    """The weights with the normalization and the GELU that go with where the file is from."""
    try:
        return weights.prepared(remote.pixel_mean, remote.pixel_std, remote.gelu or weights.config.gelu)
    except ValueError as error:
        raise CheckpointError(f"{path} does not go with its preprocessing: {error}") from error


def _spec(
    path: Path, layout: Layout, config: MixerConfig, labels: tuple[str, ...] | None, remote: Remote | None
) -> ModelSpec:
    labels = labels if labels is not None or remote is None or remote.spec is not None else remote.labels
    if labels is not None and len(labels) != config.num_classes:
        raise CheckpointError(f"{path} has {config.num_classes} classes; expected as many labels, not {len(labels)}.")
    if remote is not None and remote.spec is not None:
        return _own_spec(path, remote.spec, config, labels)
    return ModelSpec(
        name=path.stem if remote is None else Path(remote.filename).stem,
        variant=variant_name(config),
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3 if config.channels == 3 else 1,
        num_classes=config.num_classes,
        labels=labels or _default_labels(config.num_classes, remote),
        fit=PAPER_FIT if remote is None else remote.fit,
        interpolation=layout.interpolation if remote is None else remote.interpolation,
        source=Source(origin=f"{path.name}, {layout.name} layout" if remote is None else without_user(remote.url)),
    )


def _own_spec(path: Path, spec: ModelSpec, config: MixerConfig, labels: tuple[str, ...] | None) -> ModelSpec:
    """The spec that this project wrote beside the weights; a canary and sizes are an export's to add."""
    for name in ("image_size", "patch_size", "channels", "num_classes"):
        if getattr(spec, name) != getattr(config, name):
            raise CheckpointError(
                f"{path} has {name} {getattr(config, name)}; expected {getattr(spec, name)}, as the spec beside it has."
            )
    return spec.model_copy(update={"labels": labels or spec.labels, "canary": None, "network": None})


def imagenet1k_labels() -> tuple[str, ...]:
    """The 1,000 classes of ILSVRC 2012 in their usual order, each by its first word in WordNet 3.0 that is its own."""
    return read_labels(IMAGENET_1K)


def _default_labels(num_classes: int, remote: Remote | None) -> tuple[str, ...]:
    if remote is not None and remote.is_imagenet1k and num_classes == 1000:
        return imagenet1k_labels()
    return tuple(str(index) for index in range(num_classes))
