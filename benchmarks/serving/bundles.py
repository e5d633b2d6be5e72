"""The classifiers that are served: a bundle that exists, or a paper's variant with random weights, exported once."""

import io
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.serving.environments import ROOT
from cli.bench.samples import generated
from model.errors import ExportError
from model.preprocess import Pixels, patchify
from model.spec import Fit, ModelSpec, Source

if TYPE_CHECKING:
    import torch

NUM_CLASSES = 1000
_SOURCES = (
    "export/*.py",
    "model/network/mixer.py",
    "model/network/checkpoint.py",
    "model/spec.py",
    "benchmarks/serving/bundles.py",
)
_NUM_IMAGES = 8


def random_bundle(variant: str, cache: Path) -> Path:
    """A bundle of a variant of the paper's (S/16, ...), the same weights every time; kept until the export changes.

    Raises: ExportError where a graph does not reach its bar.
    """
    folder = cache / f"{variant.replace('/', '-')}-{_recipe()}"
    if not (folder / "fp32.onnx").is_file():
        _publish(variant, folder)
    return folder


def _publish(variant: str, folder: Path) -> None:
    """torch is loaded here alone: a machine that measures the default model only can do without."""
    import torch  # noqa: PLC0415

    from export.bundle import ExportData, generated_images, publish  # noqa: PLC0415
    from export.to_onnx import TorchNetwork  # noqa: PLC0415
    from model.network.checkpoint import Checkpoint  # noqa: PLC0415
    from model.network.mixer import MlpMixer  # noqa: PLC0415
    from model.weights.config import VARIANTS  # noqa: PLC0415

    torch.manual_seed(0)
    config = replace(VARIANTS[variant], num_classes=NUM_CLASSES, gelu="erf")  # timm's, as every figure has it
    model = MlpMixer(config).eval()
    spec = ModelSpec(
        name=f"random {variant}",
        variant=variant,
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3,
        num_classes=NUM_CLASSES,
        labels=tuple(f"class {number}" for number in range(NUM_CLASSES)),
        fit=Fit(mode="crop", crop_percentage=0.875),
        source=Source(origin="random weights"),
    )
    pixels = np.concatenate([_photographs(spec.image_size), generated_images(spec)])
    with torch.inference_mode():
        embeddings = model.embed(patchify(torch.from_numpy(pixels), config.patch_size))  # N C
    model.head = prototypes(embeddings)
    network = TorchNetwork(Checkpoint(model, spec))
    published = publish(network, folder, ExportData(pixels, calibration=pixels), precisions=("fp32", "int8"))
    if published.refused:
        shutil.rmtree(folder)
        raise ExportError("; ".join(published.refused.values()))


def prototypes(embeddings: "torch.Tensor", num_classes: int = NUM_CLASSES) -> "torch.nn.Linear":
    """A head that knows each picture from all others: of random weights, only what tells pictures apart is kept.

    embeddings: float32 [N, C]. The first N classes are those pictures, the rest is faint noise; of more pictures than
    `num_classes`, the first ones have a class.
    """
    import torch  # noqa: PLC0415

    mean = embeddings.mean(dim=0)  # C
    own = torch.nn.functional.normalize(embeddings - mean)[:num_classes]  # N C
    others = 0.1 * torch.nn.functional.normalize(torch.randn(num_classes - len(own), own.shape[1]))
    head = torch.nn.Linear(own.shape[1], num_classes)
    head.weight.data = torch.cat([own, others])  # K C
    head.bias.data = -(head.weight.data @ mean)  # K
    return head


def _photographs(size: int) -> Pixels:
    """Drawn ones, uint8 [n, size, size, 3]."""
    files = generated(size, 3).files[:_NUM_IMAGES]
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB").resize((size, size))) for file in files])


def _recipe() -> str:
    """Changes when what exports does."""
    files = sorted(path for pattern in _SOURCES for path in ROOT.glob(pattern))
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in files)):08x}"
