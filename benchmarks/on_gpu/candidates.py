"""What throughput compares: the bare graph, the engine, and torch in several ways."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from app.engine.engine import Engine
from benchmarks.on_gpu.logits import Logits
from benchmarks.on_gpu.machine import Machine
from benchmarks.on_gpu.networks import random_mixer
from benchmarks.on_gpu.patches import Patches
from cli.bench.stopwatch import Candidate
from model.network.mixer import MlpMixer

FROM_HOST = ("engine, 1 instance", "engine, all instances")


class TorchPatches(nn.Module):
    """The same network as the graph, its normalisation folded into the stem too: uint8 patches -> logits."""

    def __init__(self, model: MlpMixer, dtype: torch.dtype) -> None:
        super().__init__()
        self.stem = model.folded_stem().to(dtype)
        self.model = model.to(dtype)
        self.dtype = dtype

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches uint8 [N, S, P*P*C] to logits float32 [N, K]."""
        return self.model.classify(self.model.mix(self.stem(patches.to(self.dtype)))).float()


class Bound:
    """The graph with input and output on the device for good, captured as a CUDA graph: as bare as it gets."""

    def __init__(self, machine: Machine, session: Any, patches: Patches, num_classes: int) -> None:
        make = onnxruntime.OrtValue
        self._input = make.ortvalue_from_numpy(patches, machine.device, 0)
        self._logits = make.ortvalue_from_shape_and_type((len(patches), num_classes), np.float32, machine.device, 0)
        self._session, self._binding, self._size = session, session.io_binding(), len(patches)
        self._binding.bind_ortvalue_input("patches", self._input)
        self._binding.bind_ortvalue_output("logits", self._logits)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(len(patches)))

    def __call__(self) -> float:
        self._session.run_with_iobinding(self._binding, self._options)
        return self._size

    def logits(self) -> Logits:
        self()
        return np.array(self._logits.numpy())


def torch_ways(machine: Machine, name: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """torch, eager and compiled (plainly, and replaying CUDA graphs), in bf16 and fp16."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {}
    for label, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        module = TorchPatches(random_mixer(machine.variants[name]), dtype).to(machine.device).eval()
        ways[f"torch eager {label}"] = module
        ways[f"torch.compile {label}"] = compiled(module, machine, None)
        ways[f"torch.compile {label}, CUDA graphs"] = compiled(module, machine, "reduce-overhead")
    return ways


def compiled(module: nn.Module, machine: Machine, mode: str | None) -> Callable[[Tensor], Tensor]:
    """Each batch size is compiled for itself, as a server with fixed sizes would do it."""
    if machine.quick:
        return torch.compile(module, backend="eager", dynamic=False)
    return torch.compile(module, mode=mode, dynamic=False)


def torch_candidates(
    machine: Machine, ways: Mapping[str, Callable[[Tensor], Tensor]], batch: Sequence[Patches]
) -> list[Candidate[str]]:
    """Each way twice: from patches on the device, logits left there; from a list of arrays and back, as the engine."""
    on_gpu = machine.device == "cuda"
    resident = torch.from_numpy(np.stack(batch)).to(machine.device)
    host = torch.empty(resident.shape, dtype=torch.uint8, pin_memory=on_gpu)

    def device_run(forward: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        def work() -> float:
            with torch.inference_mode():
                forward(resident)
            if on_gpu:
                torch.cuda.synchronize()
            return len(batch)

        return work

    def host_run(forward: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        def work() -> float:
            np.stack(batch, out=host.numpy())
            with torch.inference_mode():
                forward(host.to(machine.device, non_blocking=True)).cpu()
            return len(batch)

        return work

    return [
        candidate
        for name, forward in ways.items()
        for candidate in (
            Candidate(f"{name}, on the device", device_run(forward)),
            Candidate(f"{name}, from the host", host_run(forward)),
        )
    ]


def engine_candidates(engine: Engine, batch: Sequence[Patches]) -> list[Candidate[str]]:
    def work() -> float:
        engine.run(batch)
        return len(batch)

    one, every = (f"{name}, fp16, from the host" for name in FROM_HOST)
    return [Candidate(one, work), Candidate(every, work, threads=engine.instances)]
