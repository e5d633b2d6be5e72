"""A file of foreign weights -> a proved bundle, without torch. Fetches nothing."""

from collections.abc import Collection
from pathlib import Path

from export.bundle import ExportData, Published, generated_images, publish
from export.direct.network import ArrayNetwork
from export.target import PRECISIONS
from model.network import foreign
from model.network.names import Remote
from model.preprocess import Pixels
from model.spec import ModelSpec, Network, Precision
from model.weights.config import MixerConfig

_GFLOP, _FEWEST = 100, 4  # that all parity images may take in one pass; and how many there are at least


def convert(
    weights: Path,
    remote: Remote | None,
    labels: tuple[str, ...] | None,
    bundle: Path,
    precisions: Collection[Precision] = PRECISIONS,
) -> Published:
    """Publish Google's .npz or timm's .safetensors as a bundle. `labels`, `remote`: as model.network.foreign.read.

    Raises: CheckpointError for a file that is no Mixer's; ExportError where fp32 misses its thresholds, or `bundle`
    cannot be written.
    """
    found = foreign.read(weights, labels, remote)
    export_data = ExportData(parity_images(found.spec, found.weights.config))
    network = ArrayNetwork(found.weights, found.spec)
    return publish(network, bundle, export_data, [p for p in precisions if p in export_data.precisions])


def parity_images(spec: ModelSpec, config: MixerConfig) -> Pixels:
    """Generated pictures, uint8 [n, H, W, C]: the larger the network the fewer, as each is computed many times."""
    sizes = Network(**{size: getattr(config, size) for size in Network.model_fields})
    images = generated_images(spec)
    gflops = spec.model_copy(update={"network": sizes}).gflops or 0.0
    count = max(_FEWEST, min(len(images), int(_GFLOP / gflops)))
    return images[:: len(images) // count][:count]
