"""A network without its head: pixels -> embeddings. Knows nothing of files, labels or heads."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import PreprocessConfig
from model.network.mixer import MlpMixer
from model.network.transfer import is_of_head
from model.preprocess import Pixels, patchify

Vectors = NDArray[np.float32]
_OF_HEAD = ("num_classes", "head_hidden_dim")


class Trunk:
    """The network up to its head, on a device. half: bfloat16 where it is safe, twice as fast where there is AVX-512
    BF16."""

    def __init__(self, model: MlpMixer, device: torch.device, *, half: bool = False) -> None:
        self._model, self._device, self.half = model.to(device).eval(), device, half
        self.width = model.config.hidden_dim

    def embed(self, pixels: Pixels) -> Vectors:
        """float32 [n, C] of uint8 [n, H, W, C_in]."""
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self.half):
            embedding = self._model.embed(patchify(images, self._model.config.patch_size))
        return embedding.float().cpu().numpy()

    def key(self, preprocess_config: PreprocessConfig) -> str:
        """32 hexadecimal digits that two trunks, or two ways to see a picture, do not share."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(trunk_digest(self._model).encode())
        digest.update(json.dumps(asdict(preprocess_config), default=lambda one: one.model_dump()).encode())
        digest.update(b"bf16" if self.half else b"fp32")
        return digest.hexdigest()


def trunk_digest(model: MlpMixer) -> str:
    """A digest of every weight but the head's, and of all sizes but the head's."""
    digest = hashlib.sha256()
    sizes = {name: value for name, value in asdict(model.config).items() if name not in _OF_HEAD}
    digest.update(json.dumps(sizes, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not is_of_head(name):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
