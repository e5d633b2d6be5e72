"""Files of public weights with their true names, layouts and sizes, and random numbers. Knows no servers."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

PATCH, TOKENS, CLASSES = 16, 196, 1000
SIZES = {"B": (768, 12), "S": (512, 8)}  # hidden_dim, blocks
PRETRAINED = {
    "input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
    "crop_pct": 0.875, "crop_mode": "center",
}  # fmt: skip
CONFIG = {"architecture": "mixer_s16_224", "num_classes": CLASSES, "pretrained_cfg": PRETRAINED}
MODELS = {
    "timm:mixer_b16_224.goog_in21k_ft_in1k": ("B", "/timm/mixer_b16_224.goog_in21k_ft_in1k/resolve/main/"),
    "hf-hub:someone/mixer_s16_224": ("S", "/someone/mixer_s16_224/resolve/main/"),
    "google:imagenet1k/Mixer-B_16": ("B", "/mixer_models/imagenet1k/Mixer-B_16.npz"),
    "google:gsam/Mixer-S_16": ("S", "/mixer_models/gsam/Mixer-S_16.npz"),
}
COMMIT = "c0ffee" * 6 + "c0de"
Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


@dataclass(frozen=True)
class File:
    """A file that is served, with its digests."""

    path: Path
    md5: bytes
    sha256: str


class Layout:
    """How one code base names and orders tensors, of random numbers under which pictures differ."""

    def __init__(self, *, google: bool) -> None:
        self.google = google
        self._random = np.random.default_rng(1)

    def dense(self, names: tuple[str, str], inputs: int, outputs: int) -> Tensors:
        kernel = self._random.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(math.sqrt(inputs))
        bias = self._random.standard_normal(outputs, dtype=np.float32) * np.float32(0.02)
        if self.google:
            return {f"{names[0]}/kernel": kernel, f"{names[0]}/bias": bias}
        return {f"{names[1]}.weight": np.ascontiguousarray(kernel.T), f"{names[1]}.bias": bias}

    def norm(self, names: tuple[str, str], hidden: int) -> Tensors:
        ones, zeros = np.ones(hidden, np.float32), np.zeros(hidden, np.float32)
        if self.google:
            return {f"{names[0]}/scale": ones, f"{names[0]}/bias": zeros}
        return {f"{names[1]}.weight": ones, f"{names[1]}.bias": zeros}

    def stem(self, hidden: int) -> Tensors:
        dense = self.dense(("stem", "stem.proj"), PATCH * PATCH * 3, hidden)
        shape = (PATCH, PATCH, 3, hidden) if self.google else (hidden, 3, PATCH, PATCH)
        return {name: tensor.reshape(shape) if tensor.ndim > 1 else tensor for name, tensor in dense.items()}

    def tensors(self, size: str) -> Tensors:
        hidden, blocks = SIZES[size]
        made = self.stem(hidden)
        mixings = (
            ("token_mixing", "mlp_tokens", TOKENS, hidden // 2),
            ("channel_mixing", "mlp_channels", hidden, hidden * 4),
        )
        for index in range(blocks):
            google, timm = f"MixerBlock_{index}", f"blocks.{index}"
            for number in (0, 1):
                made |= self.norm((f"{google}/LayerNorm_{number}", f"{timm}.norm{number + 1}"), hidden)
            for ours, theirs, dim, mlp in mixings:
                for number, shape in ((0, (dim, mlp)), (1, (mlp, dim))):
                    names = f"{google}/{ours}/Dense_{number}", f"{timm}.{theirs}.fc{number + 1}"
                    made |= self.dense(names, *shape)
        return made | self.norm(("pre_head_layer_norm", "norm"), hidden) | self.dense(("head", "head"), hidden, CLASSES)


def write(model: str, folder: Path) -> dict[str, File]:
    """The files of a model, by the paths that a client asks for."""
    size, address = MODELS[model]
    google = model.startswith("google:")
    path = folder / (model.replace(":", "-").replace("/", "-") + (".npz" if google else ".safetensors"))
    tensors = Layout(google=google).tensors(size)
    if google:
        np.savez(path, **tensors)
        return {address: _digested(path)}
    save_file(tensors, path)
    config = path.with_suffix(".json")
    config.write_text(json.dumps(CONFIG))
    return {f"{address}model.safetensors": _digested(path), f"{address}config.json": _digested(config)}


def _digested(path: Path) -> File:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
        file.seek(0)
        return File(path, md5, hashlib.file_digest(file, "sha256").hexdigest())
