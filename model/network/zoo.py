"""Foreign checkpoints in: Google's .npz and timm's .safetensors or .pth, of any sizes, become a Checkpoint.

What their tensors mean, foreign.py and the room weights/ know; only files of torch.save are opened here.
"""

from pathlib import Path

import torch

from model.hubs import source as hub_source
from model.hubs.remote import Remote
from model.hubs.transfer import Progress
from model.network import checkpoint, foreign
from model.network.checkpoint import Checkpoint
from model.network.foreign import ForeignModel
from model.network.mixer import MlpMixer
from model.network.state_dict import read_torch
from model.weights.layouts import TIMM
from model.weights.mixer_weights import TORCH_SUFFIXES, by_our_names
from model.weights.tensor_file import StoredTensors, held, reading


def open_weights(source: str, progress: Progress = lambda done, total: None) -> Checkpoint:
    """A checkpoint folder, or public weights by their name, downloaded where they are not in the cache.

    Raises: CheckpointError.
    """
    found = hub_source.fetch(source, progress=progress)
    return checkpoint.load(found.path) if found.remote is None else read(found.path, None, found.remote)


def read(path: Path, labels: tuple[str, ...] | None = None, remote: Remote | None = None) -> Checkpoint:
    """Read a foreign weight file, as foreign.read does, or one of torch.save in timm's layout.

    Raises: CheckpointError, naming the file and the tensor that is missing, extra or misshapen.
    """
    found = read_any(path, labels, remote)
    model = MlpMixer(found.weights.config)
    tensors = {name: tensor.read() for name, tensor in found.weights.tensors.items()}
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    return Checkpoint(model.eval(), found.spec)


def read_any(path: Path, labels: tuple[str, ...] | None = None, remote: Remote | None = None) -> ForeignModel:
    """A foreign weight file of any kind, its tensors still by themselves. Raises CheckpointError."""
    if path.suffix.lower() not in TORCH_SUFFIXES or path.is_dir():
        return foreign.read(path, labels, remote)
    return foreign.described(path, by_our_names(path, TIMM, _read_saved(path)), TIMM, labels, remote)


def _read_saved(path: Path) -> StoredTensors:
    with reading(path):
        return {name: held(tensor.float().numpy()) for name, tensor in read_torch(path).items()}
