"""What stands where a bundle was expected, and the command that makes one of it. Knows nothing of graphs."""

from pathlib import Path

_WEIGHTS = (".npz", ".safetensors")  # that `mixer pull` reads
_FOREIGN_WEIGHTS = (".bin", ".ckpt", ".h5", ".keras", ".msgpack", ".pb", ".pkl", ".pt", ".pth", ".tflite")
_CHECKPOINT = ("config.json", "model.safetensors")
_EXPECTED = "fp32.onnx, fp16.onnx or int8.onnx"


def why(path: Path) -> str | None:
    """In one line why `path` is no bundle, if it is a file or folder of another kind; None where it may be one.

    Raises: OSError where it cannot be looked at.
    """
    if path.is_file():
        return _why_no_graph(path)
    if not path.exists():
        return f"The bundle {path} does not exist; expected a folder with {_EXPECTED}, or one .onnx file."
    if all((path / name).is_file() for name in _CHECKPOINT):
        return f"The bundle {path} is a checkpoint; make a bundle of it: mixer export {path} BUNDLE"
    return None


def has_no_graph(path: Path) -> str:
    """The same of a folder that is none of another kind."""
    return f"The bundle {path} has no {_EXPECTED}."


def _why_no_graph(file: Path) -> str | None:
    kind = file.suffix.lower()
    if kind in _WEIGHTS and file.name == _CHECKPOINT[1] and (file.parent / _CHECKPOINT[0]).is_file():
        return f"The bundle {file} belongs to a checkpoint; make a bundle of it: mixer export {file.parent} BUNDLE"
    if kind in _WEIGHTS:
        return f"The bundle {file} is a file of weights; make a bundle of it: mixer pull {file}"
    if kind in _FOREIGN_WEIGHTS:
        return f"The bundle {file} is a {kind} file; expected an .onnx file, or a folder with {_EXPECTED}."
    return None
