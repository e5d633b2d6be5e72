"""timm itself, where it is installed: what an export to its layout is held to.

`pip install --no-deps --target JUDGES timm==1.0.31 torchvision==0.28.0`, and JUDGES in PYTHONPATH. Of torchvision only
the transforms are needed: its compiled operators, which fit another build of torch, may be missing.
"""

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from export.outgoing.timm_layout import ENTRY_POINT


def import_timm() -> Any:
    """The module timm. Skips the test where it is not installed."""
    register_fake = torch.library.register_fake

    def tolerant(name: str, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        register = register_fake(name, *args, **kwargs)

        def decorate(function: Any) -> Any:
            try:
                return register(function)
            except RuntimeError:  # there is no such operator
                return function

        return decorate

    torch.library.register_fake = tolerant  # type: ignore[assignment]
    try:
        with warnings.catch_warnings(action="ignore"):
            importlib.import_module("torchvision")
            return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    finally:
        torch.library.register_fake = register_fake


def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Callable[[Any], torch.Tensor]]:
    """The network and its transform, as the card in `folder` says to load them."""
    timm = import_timm()
    if (folder / ENTRY_POINT).exists():
        monkeypatch.syspath_prepend(str(folder))
        importlib.import_module(ENTRY_POINT.removesuffix(".py"))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return model, timm.data.create_transform(**timm.data.resolve_model_data_config(model))
