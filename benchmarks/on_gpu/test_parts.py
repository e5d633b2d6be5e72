"""What sections count, compare and read."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.on_gpu.candidates import TorchPatches
from benchmarks.on_gpu.logits import agreement, difference
from benchmarks.on_gpu.machine import TINY
from benchmarks.on_gpu.networks import random_mixer, spec_of
from benchmarks.on_gpu.patches import noise
from benchmarks.on_gpu.surroundings import nodes_by_provider, nvidia_smi
from benchmarks.on_gpu.throughput import against_compiled
from cli.bench.stopwatch import Measured

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(600)]


def test_a_profile_is_counted_by_provider(tmp_path: Path) -> None:
    def event(category: str, **arguments: str) -> dict[str, Any]:
        return {"cat": category, "args": arguments}

    events = [event("Session"), event("Node"), event("Node", provider="A"), event("Node", provider="B"),
              event("Node", provider="A"), event("Api", provider="C")]  # fmt: skip
    (tmp_path / "profile.json").write_text(json.dumps(events))
    assert nodes_by_provider(tmp_path / "profile.json") == {"A": 2, "B": 1}


def test_differences_are_relative_to_the_range_of_what_is_expected() -> None:
    expected = np.array([[0.0, 10.0], [5.0, 2.0]], dtype=np.float32)
    found = np.array([[0.0, 10.0], [5.0, 7.0]], dtype=np.float32)
    assert difference(found, expected) == 0.5
    assert agreement(found, expected) == 0.5
    assert not difference(np.full((2, 2), np.nan, dtype=np.float32), expected) <= 1


def test_ours_is_held_against_the_faster_way_of_torch_compile_round_by_round() -> None:
    def figures(**rates: Sequence[float]) -> dict[str, Measured]:
        names = {
            "ours": "ONNX Runtime, bound fp16, on the device",
            "plain": "torch.compile fp16, on the device",
            "graphs": "torch.compile fp16, CUDA graphs, on the device",
            "bf16": "torch.compile bf16, on the device",
            "eager": "torch eager fp16, on the device",
            "host": "torch.compile fp16, from the host",
        }
        return {names[name]: Measured(tuple(rounds)) for name, rounds in rates.items()}

    found = figures(
        ours=(30, 20, 10),
        plain=(5, 5, 5),
        graphs=(10, 10, 10),
        bf16=(99, 99, 99),
        eager=(99, 99, 99),
        host=(99, 99, 99),
    )
    assert against_compiled(found, "on the device") == 2


def test_nvidia_smi_is_read_field_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text('#!/bin/sh\n[ "$1" = --query-gpu=driver_version,memory.total ] && echo "580.1, 143771 MiB"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_smi("driver_version", "memory.total") == ["580.1", "143771 MiB"]


def test_torch_computes_what_the_graph_computes() -> None:
    """The competitor has the same folded stem; in float32 it is the model to the last digits."""
    config = TINY["tiny"]
    model = random_mixer(config)
    spec = spec_of("tiny", config)
    patches = torch.from_numpy(np.stack(noise(spec, 3)))
    with torch.inference_mode():
        expected = model.classify(model.embed(patches))
        found = TorchPatches(random_mixer(config), torch.float32)(patches)
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.abs().max() > 0.1
