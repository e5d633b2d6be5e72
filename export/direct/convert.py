"""A file of foreign weights, or a checkpoint folder, -> a proved bundle, without torch. Fetches nothing."""

import ctypes
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from export.bundle import ExportData, Published, export_data_of, generated_images, publish
from export.direct.network import ArrayNetwork
from export.target import PRECISIONS
from model.errors import CheckpointError
from model.hubs.remote import Remote
from model.network import foreign
from model.network.checkpoint_folder import FIRST, WEIGHTS, load_description
from model.preprocess import Pixels
from model.spec import Network, Precision
from model.weights.mixer_weights import own_weights
from model.weights.tensor_file import open_safetensors
from model.weights.tensor_names import unwrapped

_M_MMAP_THRESHOLD = -3  # of malloc.h
_LARGE_BLOCK_BYTES = 1 << 20
_GFLOP, _FEWEST = 800, 8  # that all parity images may take in one pass; and how many there are at least


def convert(
    weights: Path,
    remote: Remote | None,
    labels: tuple[str, ...] | None,
    bundle: Path,
    precisions: Collection[Precision] = PRECISIONS,
) -> Published:
    """Publish Google's .npz, timm's .safetensors or a checkpoint folder as a bundle.

    `labels`, `remote`: as model.network.foreign.read has them; a checkpoint has its own. int8 needs a checkpoint's
    pictures for fixed scales, and else takes them from every row that it multiplies.

    Raises: CheckpointError for a file that is no Mixer's; ExportError where fp32 misses its thresholds, or `bundle`
    cannot be written.
    """
    _return_large_blocks()
    network = _opened(weights, remote, labels)
    export_data = export_data_of(network)
    if network.images is None:
        export_data = ExportData(few_images(network))
    return publish(network, bundle, export_data, precisions)


def _opened(weights: Path, remote: Remote | None, labels: tuple[str, ...] | None) -> ArrayNetwork:
    if not weights.is_dir():
        found = foreign.read(weights, labels, remote)
        return ArrayNetwork(found.weights, found.spec)
    if labels is not None:
        raise CheckpointError(f"{weights} is a checkpoint, which has labels of its own; expected none beside it.")
    return open_checkpoint(weights)


def open_checkpoint(folder: Path) -> ArrayNetwork:
    """The network in a checkpoint folder; each tensor is read when it is asked for. Raises CheckpointError."""
    description = load_description(folder)
    path = folder / WEIGHTS
    own = own_weights(path, description.config, unwrapped(path, open_safetensors(path), FIRST))
    return ArrayNetwork(own, description.spec, description.images)


def _return_large_blocks() -> None:
    """Have glibc return large blocks to the system as they are freed, or it keeps the weights of the graph before."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def few_images(network: ArrayNetwork) -> Pixels:
    """Generated pictures, uint8 [n, H, W, C]: the larger the network the fewer, as each is computed many times."""
    sizes = Network(**{size: getattr(network.config, size) for size in Network.model_fields})
    images = generated_images(network.spec)
    gflops = network.spec.model_copy(update={"network": sizes}).gflops or 0.0
    count = max(_FEWEST, min(len(images), int(_GFLOP / gflops)))
    return images[:: len(images) // count][:count]
