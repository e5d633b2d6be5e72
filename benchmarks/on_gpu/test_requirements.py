"""What is missing is named, all at once, and nothing that is needed is forgotten."""

from importlib.metadata import requires
from pathlib import Path

import onnxruntime
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.on_gpu import requirements

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(600)]


def test_all_missing_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requirements, "PACKAGES", {"numpy": "numpy", "no_such": "no-such", "nor_this": "nor-this"})
    assert requirements.missing("cuda", None) == ["no_such: no-such", "nor_this: nor-this"]
    (tmp_path / "no_such-1.0-py3-none-any.whl").touch()
    assert requirements.missing("cuda", tmp_path) == [
        f"no_such: no-such (in {tmp_path})",
        f"nor_this: nor-this (not in {tmp_path})",
    ]
    under_another_name = {"no_pil": "No-Such, a build"}  # the module, than the wheel
    monkeypatch.setattr(requirements, "PACKAGES", under_another_name)
    assert requirements.missing("cuda", tmp_path) == [f"no_pil: No-Such, a build (in {tmp_path})"]


def test_the_packages_of_http_are_those_that_the_service_needs() -> None:
    """Whatever a bare machine lacks is named, so nothing that the server's extra brings may be left out."""
    named = {package.split(",")[0].lower() for package in (requirements.PACKAGES | requirements.HTTP_PACKAGES).values()}
    assert needed_by("mixer-serve", "server") <= named


def needed_by(package: str, extra: str = "", seen: frozenset[str] = frozenset()) -> set[str]:
    """Distributions that a package brings here, and those that they bring."""
    found: set[str] = set()
    for line in requires(package) or []:
        needed = Requirement(line)
        name = canonicalize_name(needed.name)
        if name not in seen | found and (needed.marker is None or needed.marker.evaluate({"extra": extra})):
            found |= {name} | needed_by(name, "", seen | found | {name})
    return found


def test_a_cpu_build_of_onnx_runtime_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    (line,) = requirements.missing("cuda", None)
    assert line.startswith(f"onnxruntime {onnxruntime.__version__} at {onnxruntime.__file__} is the CPU build; ")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert requirements.missing("cuda", None) == []
    assert requirements.missing("cpu", None) == []
