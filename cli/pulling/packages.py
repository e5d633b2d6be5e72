"""What must be installed before anything is fetched or converted. Imports none of it."""

from importlib.util import find_spec

from model.errors import MixerError

CONVERT = ("ml_dtypes", "onnx", "safetensors", "threadpoolctl")  # the extra of that name
PULL = ("httpx", "huggingface_hub", *CONVERT)  # so is this


def expect_installed(modules: tuple[str, ...] = PULL, extras: str = "pull") -> None:
    """Raises MixerError where a package is missing, with what brings it."""
    if (missing := missing_of(modules)) is not None:
        raise MixerError(
            f"Making a bundle of a model needs {missing}, which is not installed; "
            f"expected scripts/install cpu,{extras}, or pip install 'mixer-serve[cpu,{extras}]'."
        )


def missing_of(modules: tuple[str, ...]) -> str | None:
    """The first of them that is not installed; None where all are."""
    return next((module for module in modules if find_spec(module) is None), None)
