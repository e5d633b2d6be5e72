"""A checkpoint: a network in torch with its spec, in a folder of its own or in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.errors import CheckpointError
from model.network.checkpoint_folder import FIRST, WEIGHTS, Description, first_line, load_description, save_folder
from model.network.mixer import MlpMixer
from model.preprocess import Pixels
from model.spec import ModelSpec
from model.weights.mixer_weights import expect_blocks
from model.weights.tensor_names import unwrapped


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, its spec, and its provenance (`training`: free-form JSON)."""

    model: MlpMixer
    spec: ModelSpec
    training: Mapping[str, Any] = field(default_factory=dict)
    images: Pixels | None = None  # uint8 [n, H, W, C]: real ones, not in the training set


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint folder. Raises CheckpointError where the folder cannot be written."""
    description = Description(checkpoint.model.config, checkpoint.spec, checkpoint.training, checkpoint.images)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.model.state_dict().items()}
    save_folder(description, folder, lambda path: save_file(state, path))


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint folder. Raises CheckpointError, naming the file and what is wrong with it."""
    description = load_description(folder)
    try:
        state = unwrapped(folder / WEIGHTS, load_file(folder / WEIGHTS), FIRST)
        expect_blocks(folder / WEIGHTS, description.config, state)
        model = MlpMixer(description.config)
        model.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS} does not hold this network's weights: {first_line(error)}"
        ) from error
    return Checkpoint(model.eval(), description.spec, description.training, description.images)


def torch_logits(model: MlpMixer, pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits float32 [n, K] of uint8 [n, H, W, C], on the model's device."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.from_numpy(pixels.copy()).to(device))  # torch expects a writable array
    return logits.float().cpu().numpy()
