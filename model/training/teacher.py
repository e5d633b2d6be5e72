"""A trained classifier that teaches another (knowledge distillation, arXiv 1503.02531). Knows nothing of the student.

Any function from pixels to logits will do in Python; from a file, a checkpoint folder of ours or an ONNX graph.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.errors import TrainingError
from model.network import checkpoint, checkpoint_folder
from model.preprocess import patchify
from model.spec import METADATA_KEY, ModelSpec

_ONNX_INPUTS = {"tensor(uint8)": torch.uint8, "tensor(float)": torch.float32}


@dataclass(frozen=True)
class Teacher:
    """logits_of: uint8 pixels [N, H, W, C] to logits float [N, K], in the order of the student's classes."""

    logits_of: Callable[[Tensor], Tensor]
    name: str = "a function"

    def logits(self, pixels: Tensor, num_classes: int) -> Tensor:
        """float32 [N, K] on the pixels' device. Raises TrainingError where the classes are not as many as expected."""
        with torch.no_grad():
            logits = self.logits_of(pixels).float().to(pixels.device)
        if logits.shape != (len(pixels), num_classes):
            raise TrainingError(
                f"the teacher {self.name} gives {tuple(logits.shape)} for {len(pixels)} pictures; "
                f"expected {(len(pixels), num_classes)}."
            )
        return logits


def read_teacher(path: Path, labels: tuple[str, ...], channels: int, device: torch.device) -> Teacher:
    """A checkpoint folder, or an ONNX file: a bundle's graph, or one that takes pixels.

    An ONNX graph takes uint8 or float pixels in 0..255, [N, H, W, C] or [N, C, H, W], and its first output, or the one
    called logits, is [N, K]. Pictures of another size than the student's are resized.

    Raises: TrainingError, naming the mismatch; CheckpointError for a broken checkpoint.
    """
    if path.is_dir():
        return _checkpoint_teacher(path, labels, channels, device)
    if path.is_file():
        return _graph_teacher(path, labels, channels)
    raise TrainingError(f"the teacher {path} does not exist; expected a checkpoint folder or an ONNX file.")


def teacher_name(path: Path) -> str:
    """The SHA-256 of a teacher's weights or graph, wherever it lies. Raises TrainingError."""
    file = path / checkpoint_folder.WEIGHTS if path.is_dir() else path
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise TrainingError(
            f"the teacher {path} cannot be read: {error}; expected a checkpoint folder or an ONNX file."
        ) from error


def _checkpoint_teacher(path: Path, labels: tuple[str, ...], channels: int, device: torch.device) -> Teacher:
    loaded = checkpoint.load(path)
    network, config = loaded.model.to(device), loaded.model.config
    _expect(path, "classes", loaded.spec.labels, labels)
    _expect(path, "channels", config.channels, channels)
    return Teacher(lambda pixels: network(_resized(pixels, config.image_size, config.image_size)), teacher_name(path))


def _graph_teacher(path: Path, labels: tuple[str, ...], channels: int) -> Teacher:
    try:
        import onnxruntime  # noqa: PLC0415 -- training without a teacher needs none
    except ImportError as error:
        command = "scripts/install cpu,train,export"
        raise TrainingError(f"the teacher {path} needs onnxruntime; install it with: {command}") from error

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    usable = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in _providers(onnxruntime)]
    content = path.read_bytes()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=usable)
    except Exception as error:  # the runtime's own exceptions share no base class
        raise TrainingError(f"the teacher {path} is not a usable ONNX graph: {str(error)[:300]}") from error
    spec = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if spec is not None:
        _expect(path, "classes", _labels_of(path, spec), labels)
    outputs = [output.name for output in session.get_outputs()]
    output = "logits" if "logits" in outputs else outputs[0]
    entry = session.get_inputs()[0]
    prepare = _preparation(path, list(entry.shape), entry.type, channels)

    def logits_of(pixels: Tensor) -> Tensor:
        if not len(pixels):
            return torch.zeros(0, len(labels))
        (logits,) = session.run([output], {entry.name: prepare(pixels).cpu().contiguous().numpy()})
        return torch.from_numpy(logits)

    return Teacher(logits_of, hashlib.sha256(content).hexdigest())


def _labels_of(path: Path, spec: str) -> tuple[str, ...]:
    try:
        return ModelSpec.model_validate_json(spec).labels
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"the teacher {path} has a spec that cannot be read: {reason}") from error


def _providers(onnxruntime: Any) -> list[str]:
    return list(onnxruntime.get_available_providers())


def _preparation(path: Path, shape: list[Any], kind: str, channels: int) -> Callable[[Tensor], Tensor]:
    """The conversion from uint8 [N, H, W, C] to the graph's input."""
    dtype = _ONNX_INPUTS.get(kind)
    if shape and isinstance(shape[0], int):
        raise TrainingError(f"the teacher {path} takes {shape[0]} pictures at a time; expected any number of them.")
    if dtype is not None and len(shape) == 3 and all(isinstance(size, int) for size in shape[1:]):
        patch_size = math.isqrt(shape[2] // channels)
        side = patch_size * math.isqrt(shape[1])
        if patch_size**2 * channels == shape[2] and (side // patch_size) ** 2 == shape[1]:
            return lambda pixels: patchify(_resized(pixels, side, side), patch_size).to(dtype)
    if dtype is not None and len(shape) == 4 and shape[3] == channels:
        return lambda pixels: _resized(pixels, shape[1], shape[2]).to(dtype)
    if dtype is not None and len(shape) == 4 and shape[1] == channels:
        return lambda pixels: _resized(pixels, shape[2], shape[3]).permute(0, 3, 1, 2).to(dtype)
    raise TrainingError(
        f"the teacher {path} takes {kind} {shape}; expected uint8 or float pixels of {channels} channels, "
        "[N, H, W, C] or [N, C, H, W], or a bundle's patches."
    )


def _resized(pixels: Tensor, height: Any, width: Any) -> Tensor:
    """uint8 [N, H, W, C] at another size; a size that the graph leaves open (not a number) stays."""
    wanted = (
        height if isinstance(height, int) else pixels.shape[1],
        width if isinstance(width, int) else pixels.shape[2],
    )
    if wanted == tuple(pixels.shape[1:3]):
        return pixels
    images = functional.interpolate(pixels.permute(0, 3, 1, 2).float(), wanted, mode="bilinear", antialias=True)
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _expect(path: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise TrainingError(f"the teacher {path} has the {what} {found}; expected {expected}.")
