"""What must be installed before anything is fetched or converted. Imports none of it."""

from importlib.util import find_spec

from model.errors import MixerError

PULL = ("httpx", "huggingface_hub", "ml_dtypes", "onnx", "safetensors", "threadpoolctl")  # the extra of that name


def expect_installed(modules: tuple[str, ...] = PULL, extras: str = "pull") -> None:
    """Raises MixerError where a package is missing, with what brings it."""
    missing = next((module for module in modules if find_spec(module) is None), None)
    if missing is not None:
        raise MixerError(
            f"Making a bundle of a model needs {missing}, which is not installed; "
            f"expected scripts/install cpu,{extras}, or pip install 'mixer-serve[cpu,{extras}]'."
        )
