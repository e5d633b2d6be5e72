"""What the machine is, and whether the graph really runs on its device."""

import json
import platform
import subprocess
from collections import Counter
from pathlib import Path

import onnxruntime
import torch

from app.engine.engine import find_graphs
from app.engine.providers import PROVIDERS
from app.system.cpu_limits import usable_cpus
from benchmarks.on_gpu.logits import plain_logits
from benchmarks.on_gpu.machine import Machine
from benchmarks.on_gpu.patches import noise
from benchmarks.on_gpu.sections import Section


def surroundings(machine: Machine, section: Section) -> None:
    """Device, driver and versions."""
    section.figures.update(
        {
            "provider": machine.provider,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "onnxruntime": onnxruntime.__version__,
            "processor_cpus": usable_cpus(),
            "device": torch.cuda.get_device_name() if machine.device == "cuda" else platform.machine(),
        }
    )
    if machine.device == "cuda":
        names = ("driver_version", "memory.total", "clocks.max.sm", "power.limit")
        section.figures.update(zip(names, nvidia_smi(*names), strict=True))
        section.figures["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
    section.table(("what", "value"), list(section.figures.items()))


def nvidia_smi(*names: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader", "--id=0"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [value.strip() for value in answer.split(",")]


def provider(machine: Machine, section: Section) -> None:
    """Does the graph really run on the provider, every node of it? By the session's own word, and by its profile."""
    engine = machine.open(machine.bundle)
    section.expect(engine.provider == machine.provider, f"the engine runs on {engine.provider}")
    path = find_graphs(machine.bundle)[engine.precision]
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(machine.work / "profile")
    session = onnxruntime.InferenceSession(str(path), options, providers=[PROVIDERS[machine.device]])
    named = list(session.get_providers())
    section.expect(named[:1] == [PROVIDERS[machine.device]], f"session.get_providers() is {named}")
    plain_logits(session, noise(engine.spec, 2))
    nodes = nodes_by_provider(Path(session.end_profiling()))
    strangers = {name: count for name, count in nodes.items() if name != PROVIDERS[machine.device]}
    section.expect(bool(nodes), "the profile names no node")
    section.expect(not strangers, f"nodes on other providers: {strangers}")
    section.figures.update(
        {"precision": engine.precision, "providers": named, "nodes": nodes, "instances": engine.instances}
    )
    section.say(
        f"{path} on {', '.join(named)}: nodes by provider {nodes}; the engine has {engine.instances} instances in "
        f"{engine.precision}."
    )


def nodes_by_provider(profile: Path) -> dict[str, int]:
    """How many nodes each provider ran, out of ONNX Runtime's profile."""
    events = json.loads(profile.read_text())
    names = (event.get("args", {}).get("provider") for event in events if event.get("cat") == "Node")
    return dict(Counter(name for name in names if name))
