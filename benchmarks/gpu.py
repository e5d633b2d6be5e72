"""Every check and measurement that needs a GPU, in one call.

    PYTHONPATH=. python3 benchmarks/gpu.py --out DIR [--sections provider,parity] [--time-limit-s 540]

Runs from the repository's root on a bare machine with one NVIDIA GPU, without installing the package and without a
network. What it imports (PACKAGES below) must be there; whatever is not is named at the start, all at once. Where a
machine cannot fetch them, carry them as wheels and unpack these first:

    python3 -m pip install --no-index --no-deps --target site WHEELS/*.whl
    PYTHONPATH=.:site python3 benchmarks/gpu.py --wheels WHEELS --out DIR     (--wheels only looks whether they are in)

onnxruntime-gpu must come before any onnxruntime: both fill the same module. CUDA and cuDNN come from the wheels that
torch depends on.

The section http starts the whole service and needs its packages, too (HTTP_PACKAGES, 35 MB of wheels; without them it
alone is skipped). Where there is a network, this brings them for Python 3.12, with what they need themselves:

    python3 -m pip download --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
        --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -c constraints.txt -d WHEELS '.[server]'

Writes DIR/gpu.json and DIR/gpu.md after every section, and after every load of the section http, so that what was
measured before a time limit is kept. A section that fails is told with its traceback and leaves the others alone; the
exit code is then 1. `--provider cpu --quick` goes through all of it on any machine, with tiny sizes and figures that
mean nothing.
"""
# ruff: noqa: E402, PLC0415 -- what is missing is told before it is imported

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "app": "this repository: run from its root with PYTHONPATH=.",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "annotated_types": "annotated-types",
    "typing_inspection": "typing-inspection",
    "torch": "torch, a CUDA build",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxscript": "onnxscript",
    "ml_dtypes": "ml-dtypes",
    "onnxruntime": "onnxruntime-gpu",
}
HTTP_PACKAGES = {
    "fastapi": "fastapi",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "uvloop": "uvloop",
    "httptools": "httptools",
    "h11": "h11",
    "anyio": "anyio",
    "idna": "idna",
    "click": "click",
    "pydantic_settings": "pydantic-settings",
    "dotenv": "python-dotenv",
    "pythonjsonlogger": "python-json-logger",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
    "opentelemetry": "opentelemetry-api",
    "typer": "typer",
    "shellingham": "shellingham",
    "rich": "rich",
    "markdown_it": "markdown-it-py",
    "mdurl": "mdurl",
    "pygments": "pygments",
    "annotated_doc": "annotated-doc",
    "typing_extensions": "typing-extensions",
}


def absent(packages: dict[str, str], wheels: Path | None) -> list[str]:
    """A line for each that cannot be imported; with a folder of wheels, whether it lies there."""
    lacking = {module: package for module, package in packages.items() if find_spec(module) is None}
    if wheels is None:
        return [f"{module}: {package}" for module, package in lacking.items()]
    held = {path.name.split("-")[0].lower() for path in wheels.glob("*.whl")}
    names = {module: package.split(",")[0].replace("-", "_").lower() for module, package in lacking.items()}
    return [
        f"{module}: {package} ({'in' if names[module] in held else 'not in'} {wheels})"
        for module, package in lacking.items()
    ]


def missing(provider: str, wheels: Path | None) -> list[str]:
    """What stands in the way, one line each; nothing heavy is loaded to find out unless all of it is there."""
    lines = absent(PACKAGES, wheels)
    if lines or provider == "cpu":
        return lines
    import onnxruntime
    import torch

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        lines.append(
            f"onnxruntime {onnxruntime.__version__} at {onnxruntime.__file__} is the CPU build; "
            f"put onnxruntime-gpu before it on PYTHONPATH"
        )
    if not torch.cuda.is_available():
        lines.append(f"torch {torch.__version__} sees no GPU")
    return lines


def numbers(flag: str) -> tuple[int, ...]:
    """Separated by commas. Raises ArgumentTypeError."""
    found = tuple(int(one) for one in flag.split(",") if one.strip().isdecimal())
    if len(found) != len(flag.split(",")) or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{flag!r}; expected numbers from 1 on, separated by commas")
    return found


def parsed(flags: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/fashion-mnist"))
    parser.add_argument("--sections", default="", help="some of them, separated by commas; default: all")
    parser.add_argument("--variants", default="B/16,S/16,L/16", help="in this order, in case time runs out")
    parser.add_argument("--batch-sizes", type=numbers, default="1,8,64,256")
    parser.add_argument("--seconds", type=float, help="time for one measurement (default: 0.25, over HTTP 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=numbers, default="1,2,4,8", help="of the services that http starts")
    parser.add_argument(
        "--connections", type=numbers, default="8,32,128,256", help="of the loads that http puts on them"
    )
    parser.add_argument("--time-limit-s", type=float, default=0, help="begin nothing new after this; 0: no limit")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to look into for what is missing")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that the script runs")
    return parser.parse_args(flags)


if __name__ == "__main__":
    options = parsed()
    lacking = missing(options.provider, options.wheels)
    if lacking:
        print("benchmarks/gpu.py cannot run here. Missing:", *lacking, sep="\n  ", file=sys.stderr)
        sys.exit(2)

import json
import os
import platform
import random
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
import torch._dynamo
from numpy.typing import NDArray
from torch import Tensor, nn

from app.decoding.decoder import DecodeLimits, decode
from app.engine.cuda_graphs import BatchBucketRunner, batch_buckets
from app.engine.engine import Engine, EngineOptions, find_graphs, open_engine
from app.engine.gpu_buffers import OrtMemory
from app.engine.providers import PROVIDERS, load_libraries
from app.errors import EngineError
from app.system.cpu_limits import usable_cpus
from cli.bench.ceilings import Classifying, Decoding, Running, classifyings, decodings, doublings, runnings
from cli.bench.findings import Findings
from cli.bench.rig import Opened, Split
from cli.bench.samples import Samples, generated
from cli.bench.stopwatch import Candidate, Measured, measure, ratio
from export.graph import write_metadata
from export.to_onnx import write_graph
from model.network.mixer import MlpMixer
from model.preprocess import smallest_useful_side, to_patches
from model.spec import ModelSpec, Network, Source
from model.weights.config import VARIANTS, MixerConfig

if TYPE_CHECKING:  # what it imports may be missing
    from benchmarks.gpu_http_services import Model

Patches = NDArray[np.uint8]  # of one picture: [S, P*P*C]
Logits = NDArray[np.float32]  # of a batch: [n, K]
Row = Sequence[object]

MEBIBYTE = 1 << 20
LIMITS = DecodeLimits(20 << 20, 50_000_000)
TINY = {"tiny": MixerConfig(16, 8, 16, 2, 8, 32, num_classes=5)}
TOLERANCES = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.2}  # of the logits' range, against fp32 on the CPU
AGREEMENTS = {"fp32": 1.0, "fp16": 0.97, "int8": 0.95}  # how many of the best labels must be the same
REPLAY_TOLERANCE = 0.02  # of the logits' range: another kernel may round otherwise
FLAT_BYTES = 16 * MEBIBYTE
BUCKET = ("rung", "pictures", "padding", "difference", "same")
REFUSED_ON_A_GPU = "int8"
FROM_HOST = ("engine, 1 instance", "engine, all instances")
ON_DEVICE = "ONNX Runtime, bound"
SMALL = "the default bundle"
PHOTOGRAPHIC = "S/16"  # with random weights, the one that is served, too
SECONDS, HTTP_SECONDS = 0.25, 2.0
QUICK_SECONDS, QUICK_HTTP_SECONDS = 0.002, 0.3


@dataclass
class Section:
    """What one part found out: a verdict, figures for programs, and lines of Markdown for people."""

    name: str
    ok: bool = True
    figures: dict[str, Any] = field(default_factory=dict)
    markdown: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    took_s: float = 0.0
    verdict: str = ""  # empty while it is under way
    save: Callable[[], None] = lambda: None  # writes what there is so far

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a check that does not hold; the others still run."""
        if not holds:
            self.ok = False
            self.failures.append(otherwise)

    def say(self, line: str) -> None:
        self.markdown += [line, ""]

    def table(self, heads: Row, rows: Sequence[Row]) -> None:
        self.markdown += [_line(heads), _line(["---"] * len(heads)), *map(_line, rows), ""]


@dataclass
class Machine:
    """Where everything runs, and what all sections share."""

    provider: str
    quick: bool
    bundle: Path
    work: Path  # for exported graphs and profiles; gone afterwards
    variants: dict[str, MixerConfig]
    batch_sizes: tuple[int, ...]
    seconds: float
    http_seconds: float
    rounds: int
    workers: tuple[int, ...]
    connections: tuple[int, ...]
    until: float
    wheels: Path | None
    bundles: dict[str, Path] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the sections that have run

    @property
    def device(self) -> str:
        """The device's name, the same for torch and for ONNX Runtime's memory."""
        return "cpu" if self.provider == "cpu" else "cuda"

    def out_of_time(self) -> bool:
        return time.monotonic() > self.until

    def open(self, bundle: Path, *, precision: str = "auto", max_batch_size: int = 32, instances: int = 0) -> Engine:
        return open_engine(
            EngineOptions(
                bundle, provider=self.provider, precision=precision, max_batch_size=max_batch_size, instances=instances
            )
        )

    def session(self, path: Path, **provider_options: str) -> Any:
        """A plain session of ONNX Runtime, nothing of ours around it."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.provider == "cpu":
            options.intra_op_num_threads = 1
        name = self.device
        chosen = {} if name == "cpu" else {"use_tf32": "0", **provider_options}
        session = onnxruntime.InferenceSession(str(path), options, providers=[(PROVIDERS[name], chosen)])
        if session.get_providers()[0] != PROVIDERS[name]:
            raise RuntimeError(f"{path} runs on {session.get_providers()}; expected {PROVIDERS[name]}.")
        return session

    def time(self, candidates: Sequence[Candidate[Any]]) -> dict[Any, Measured]:
        return measure(candidates, seconds=self.seconds, rounds=self.rounds)

    def exported(self, name: str) -> Path:
        """A bundle of that variant in half precision with random weights, made at the first call."""
        if name not in self.bundles:
            folder = self.work / name.replace("/", "-")
            folder.mkdir()
            model = random_mixer(self.variants[name])
            write_graph(model, folder / "fp16.onnx", "fp16")
            write_metadata(folder / "fp16.onnx", spec_of(name, self.variants[name]), "fp16")
            self.bundles[name] = folder
        return self.bundles[name]


def random_mixer(config: MixerConfig) -> MlpMixer:
    """The same weights every time, with a head that is not zero."""
    torch.manual_seed(0)
    model = MlpMixer(config).eval()
    nn.init.normal_(model.head.weight, std=config.hidden_dim**-0.5)
    return model


def spec_of(name: str, config: MixerConfig) -> ModelSpec:
    return ModelSpec(
        name=name,
        variant=name,
        image_size=config.image_size,
        patch_size=config.patch_size,
        channels=3,
        num_classes=config.num_classes,
        labels=tuple(map(str, range(config.num_classes))),
        network=Network(
            hidden_dim=config.hidden_dim,
            num_blocks=config.num_blocks,
            tokens_mlp_dim=config.tokens_mlp_dim,
            channels_mlp_dim=config.channels_mlp_dim,
        ),
        source=Source(origin="random weights"),
    )


def noise(spec: ModelSpec, count: int, seed: int = 0) -> list[Patches]:
    """Patches of `count` pictures in which nothing repeats."""
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 256, (count, spec.num_patches, spec.patch_bytes), dtype=np.uint8))


def images_of(spec: ModelSpec, bundle: Path) -> list[Patches]:
    """The bundle's own held-out pictures where it has them, the examples, else generated ones; as patches."""
    paths = sorted([*(bundle / "checkpoint" / "pictures").glob("*.png"), *Path("examples/fashion-mnist").glob("*.png")])
    files = [path.read_bytes() for path in paths] or generated(spec.image_size, spec.channels).files
    return [decoder(spec)(file) for file in files]


def decoder(spec: ModelSpec) -> Callable[[bytes], Patches]:
    side = smallest_useful_side(spec)
    return lambda file: to_patches(decode(file, spec.channels, side, LIMITS), spec)


def plain_logits(session: Any, patches: Sequence[Patches]) -> Logits:
    (logits,) = session.run(["logits"], {"patches": np.stack(patches)})
    return np.asarray(logits)


def difference(found: Logits, expected: Logits) -> float:
    """The largest, relative to the range of the expected logits; NaN where anything is not a number."""
    return float(np.abs(found - expected).max() / (float(np.ptp(expected)) or 1.0))


def agreement(found: Logits, expected: Logits) -> float:
    return float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())


# --- what is measured, a function each ---


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


def parity(machine: Machine, section: Section) -> None:
    """All graphs of the bundle against fp32 on the CPU, on real pictures, in several batch sizes."""
    graphs = find_graphs(machine.bundle)
    reference = open_engine(EngineOptions(machine.bundle, provider="cpu", precision=next(iter(graphs))))
    patches = images_of(reference.spec, machine.bundle)
    expected = reference.run(patches).logits
    rows: list[Row] = []
    for precision in graphs:
        try:
            engine = machine.open(machine.bundle, precision=precision, max_batch_size=len(patches))
        except EngineError as error:
            expectable = precision == REFUSED_ON_A_GPU and machine.device == "cuda"
            section.expect(expectable, f"{precision} is refused: {error}")
            section.figures[precision] = {"refused": str(error)}
            rows.append((precision, "refused" + (", as expected" if expectable else ""), "", str(error)[:160]))
            continue
        found = {size: in_batches(engine, patches, size) for size in (1, 2, 7, len(patches))}
        worst = max(difference(logits, expected) for logits in found.values())
        least = min(agreement(logits, expected) for logits in found.values())
        alone = max(difference(logits, found[1]) for logits in found.values())
        section.figures[precision] = {"difference": worst, "top1_agreement": least, "alone_or_in_a_batch": alone}
        section.expect(worst <= TOLERANCES[precision], f"{precision} differs by {worst:.3g} of the logits' range")
        section.expect(least >= AGREEMENTS[precision], f"{precision} has the same best label for {least:.1%} only")
        rows.append((precision, f"{worst:.2e}", f"{least:.1%}", f"{alone:.2e}"))
    section.say(f"{len(patches)} pictures, {next(iter(graphs))} on the CPU as the reference; batches of 1, 2, 7, all.")
    section.table(("graph", "largest difference / range", "same best label", "alone against in a batch"), rows)
    absent = [precision for precision in TOLERANCES if precision not in graphs]
    if absent:
        section.say(f"The bundle has no {', '.join(absent)}.")


def in_batches(engine: Engine, patches: Sequence[Patches], size: int) -> Logits:
    starts = range(0, len(patches), size)
    return np.concatenate([engine.run(patches[start : start + size]).logits for start in starts])


def buckets(machine: Machine, section: Section) -> None:
    """Every rung of the ladder, full and one short of it, replayed against a run of the plain graph."""
    top = 8 if machine.quick else 64
    engine = machine.open(machine.bundle, max_batch_size=top)
    plain = machine.session(find_graphs(machine.bundle)[engine.precision])
    run, padding = engine.run, engine.pool[0].runner.padding
    if machine.device == "cpu":  # whose engine pads nothing: the GPU's runner itself, in the CPU's memory
        runner = BatchBucketRunner(plain, engine.spec, top, OrtMemory("cpu", 0))
        run, padding = runner.run, runner.padding
    rows: list[Row] = []
    for bucket in batch_buckets(top):
        for size in sorted({bucket, max(1, bucket - 1)}):
            patches = noise(engine.spec, size, seed=size)
            expected = plain_logits(plain, patches)
            replays = [run(patches).logits for _ in range(2 * engine.instances)]  # every instance has its turn
            worst = max(difference(logits, expected) for logits in replays)
            same = all(np.array_equal(logits, expected) for logits in replays)
            section.expect(worst <= REPLAY_TOLERANCE, f"{size} pictures on rung {bucket} differ by {worst:.3g}")
            rows.append((bucket, size, padding(size), f"{worst:.1e}", "yes" if same else "no"))
    section.figures["rungs"] = [dict(zip(BUCKET, row, strict=True)) for row in rows]
    section.table(("rung", "pictures", "padding", "largest difference / range", "bit for bit"), rows)


def memory(machine: Machine, section: Section) -> None:
    """Memory in use while 2,000 batches of random sizes go through every instance."""
    runs, top = (40, 8) if machine.quick else (2000, 64)
    engine = machine.open(machine.exported(next(iter(machine.variants))), max_batch_size=top)
    patches = noise(engine.spec, top)
    rng = random.Random(0)
    sizes = [rng.randint(1, top) for _ in range(runs)]
    steps = 20
    used = [bytes_in_use(machine.device)]
    with ThreadPoolExecutor(engine.instances) as pool:
        for start in range(0, runs, runs // steps):
            for future in [pool.submit(engine.run, patches[:size]) for size in sizes[start : start + runs // steps]]:
                future.result()
            used.append(bytes_in_use(machine.device))
    grown = max(used) - used[0]
    section.figures.update({"runs": runs, "bytes_in_use": used, "grown_bytes": grown})
    if machine.device == "cuda":
        section.expect(grown <= FLAT_BYTES, f"device memory grew by {grown / MEBIBYTE:.0f} MiB")
    where = "device memory" if machine.device == "cuda" else "memory of the process"
    before, most, after = (f"{one / MEBIBYTE:,.0f} MiB" for one in (used[0], max(used), used[-1]))
    section.say(
        f"{engine.spec.name}, {runs} batches of 1 to {top} pictures at random in {engine.instances} instances: "
        f"{where} {before} before, {most} at most, {after} after."
    )


def bytes_in_use(device: str) -> int:
    """Of the whole device, whoever took it; on the CPU, of this process."""
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


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


def throughput(machine: Machine, section: Section) -> None:
    """images/s by batch size, ours in half precision against torch on the same device, all in turn."""
    section.say(
        "images/s, medians; every run is waited for. 'On the device': uint8 patches lie there already, the logits stay "
        "there. 'From the host': a list of NumPy arrays in, logits in host memory out; the engine does it in one "
        "instance, and in all of them at once."
    )
    for name in machine.variants:
        if machine.out_of_time():
            section.say(f"{name}: not measured, out of time.")
            continue
        measure_variant(machine, section, name)


def measure_variant(machine: Machine, section: Section, name: str) -> None:
    bundle = machine.exported(name)
    spec = spec_of(name, machine.variants[name])
    graph = machine.session(bundle / "fp16.onnx", enable_cuda_graph="1")
    top = max(machine.batch_sizes)
    engine = machine.open(bundle, precision="fp16", max_batch_size=top)
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = 64  # beyond its limit it goes on uncompiled, which must not pass unseen:
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    ways = torch_ways(machine, name)
    figures: dict[int, dict[str, Measured]] = {}
    for size in machine.batch_sizes:
        if machine.out_of_time():
            section.say(f"{name}: batches of {size} and more are not measured, out of time.")
            break
        batch = noise(spec, size)
        bound = Bound(machine, graph, np.stack(batch), spec.num_classes)
        expect_like_torch(
            section, f"{name}, {size} pictures", bound.logits(), engine.run(batch).logits, ways, batch, machine
        )
        candidates = [
            Candidate(f"{ON_DEVICE} fp16, on the device", bound),
            *engine_candidates(engine, batch),
            *torch_candidates(machine, ways, batch),
        ]
        prepare(candidates)
        figures[size] = machine.time(candidates)
    report_variant(section, name, figures, spec)


def prepare(candidates: Sequence[Candidate[str]]) -> None:
    """Compile and capture; torch records a CUDA graph at the second call and replays it from the third."""
    for candidate in candidates:
        for _ in range(3):
            candidate.work()


def engine_candidates(engine: Engine, batch: Sequence[Patches]) -> list[Candidate[str]]:
    def work() -> float:
        engine.run(batch)
        return len(batch)

    one, every = (f"{name}, fp16, from the host" for name in FROM_HOST)
    return [Candidate(one, work), Candidate(every, work, threads=engine.instances)]


def expect_like_torch(
    section: Section,
    what: str,
    bound: Logits,
    served: Logits,
    ways: Mapping[str, Callable[[Tensor], Tensor]],
    batch: Sequence[Patches],
    machine: Machine,
) -> None:
    """Speed means nothing where the answers differ."""
    with torch.inference_mode():
        expected = ways["torch eager fp16"](torch.from_numpy(np.stack(batch)).to(machine.device)).cpu().numpy()
    for name, logits in (("the bound graph", bound), ("the engine", served)):
        worst = difference(logits, expected)
        section.expect(worst <= 0.05, f"{what}: {name} differs from torch in fp16 by {worst:.3g} of the logits' range")


def report_variant(section: Section, name: str, figures: Mapping[int, Mapping[str, Measured]], spec: ModelSpec) -> None:
    sizes = list(figures)
    ways = list(dict.fromkeys(way for found in figures.values() for way in found))
    rows: list[Row] = [(way, *(f"{figures[size][way].rate:,.0f}" for size in sizes)) for way in ways]
    ratios = {place: {size: against_compiled(figures[size], place) for size in sizes} for place in PLACES}
    for place, by_size in ratios.items():
        rows.append((f"**ours / best torch.compile fp16, {place}**", *(f"**{by_size[size]:.2f}**" for size in sizes)))
    section.say(f"### {name}, {(spec.gflops or 0):.2f} GFLOP a picture")
    section.table(("batch size", *sizes), rows)
    section.figures[name] = {
        "images_s": {size: {way: found.rate for way, found in figures[size].items()} for size in sizes},
        "rounds": {size: {way: found.rounds for way, found in figures[size].items()} for size in sizes},
        "ours_over_torch_compile_fp16": ratios,
    }


PLACES = ("on the device", "from the host")


def against_compiled(figures: Mapping[str, Measured], place: str) -> float:
    """Ours over the faster of torch.compile's two ways, in fp16, round by round."""
    there = {way: found for way, found in figures.items() if way.endswith(place)}
    ours = [found for way, found in there.items() if not way.startswith("torch")]
    theirs = [found for way, found in there.items() if way.startswith("torch.compile fp16")]
    return ratio(max(ours, key=lambda found: found.rate), max(theirs, key=lambda found: found.rate))


def end_to_end(machine: Machine, section: Section) -> None:
    """From picture files to logits: decoding alone, the model alone, both in bare threads; and what binds."""
    largest = 4 if machine.quick else 64
    for name in (SMALL, next(iter(machine.variants))):
        if machine.out_of_time():
            section.say(f"{name}: not measured, out of time.")
            continue
        bundle = machine.exported(name) if name in machine.variants else machine.bundle
        engine = machine.open(bundle, max_batch_size=largest)
        images = generated(engine.spec.image_size, engine.spec.channels)
        findings = whole_path(machine, engine, images, largest)
        section.figures[name] = findings.as_json()
        section.say(f"### {name}, {engine.precision}; {images.description}, {images.mean_bytes:,} bytes")
        section.table(("what", "threads", "pictures at a time", "images/s"), list(parts(findings)))
        ceiling = findings.measured[findings.best_of(Classifying)].rate
        section.say(f"{findings.verdict().sentence} Together: {ceiling:,.0f} images/s.")


def whole_path(machine: Machine, engine: Engine, images: Samples, largest: int) -> Findings:
    split = Split(engine.instances, 1)
    opened = Opened(engine.precision, split, engine.run)
    decoded = decoder(engine.spec)
    cpus = usable_cpus()
    sizes = sorted({1, max(1, largest // 4), largest})
    candidates: list[Candidate[Any]] = [
        *decodings(images.files, decoded, cpus),
        *runnings(opened, [decoded(file) for file in images.files], doublings(largest)),
        *classifyings(opened, images.files, decoded, cpus, sizes),
    ]
    return Findings(machine.time(candidates), engine.provider, engine.precision, split, largest, engine.spec.gflops)


def parts(findings: Findings) -> Iterator[Row]:
    for decoding, found in findings.of(Decoding).items():
        yield "decoding", decoding.threads, 1, f"{found.rate:,.0f}"
    for running, found in findings.of(Running).items():
        yield "the model", f"{running.instances} instances", running.batch_size, f"{found.rate:,.0f}"
    for both, found in findings.of(Classifying).items():
        yield "decoding and the model", usable_cpus(), both.batch_size, f"{found.rate:,.0f}"


def http(machine: Machine, section: Section) -> None:
    """The whole service over HTTP with 1, 2, ... workers, under closed loops; its answers are those of the engine."""
    lacking = absent(HTTP_PACKAGES, machine.wheels)
    if lacking or machine.out_of_time():
        section.verdict = "skipped"
        section.figures["skipped"] = lacking or "out of time"
        section.say(f"Skipped. Missing: {'; '.join(lacking)}." if lacking else "Not measured, out of time.")
        print(section.markdown[0], file=sys.stderr)
        return
    from benchmarks import gpu_http, gpu_http_services, gpu_http_tables

    plan = gpu_http_services.Plan(
        provider=machine.provider,
        workers=machine.workers,
        connections=machine.connections,
        seconds=machine.http_seconds,
        rounds=machine.rounds,
        until=machine.until,
        work=machine.work,
        used_bytes=(lambda: bytes_in_use("cuda")) if machine.device == "cuda" else None,
    )

    def tell(found: Sequence[gpu_http.Found]) -> None:
        gpu_http_tables.tell(section, plan, found)
        section.save()

    for found in gpu_http.measure(plan, served_models(machine), tell):
        for fault in found.faults():
            section.expect(holds=False, otherwise=fault)


def served_models(machine: Machine) -> list["Model"]:
    """The default bundle for small pictures; for photographs a network with random weights, on a GPU in half precision.

    The engines that give the right answers are gone before any service starts.
    """
    from benchmarks import gpu_http_models
    from benchmarks.serving.__main__ import PHOTOGRAPHS, small_kind

    name = PHOTOGRAPHIC if PHOTOGRAPHIC in machine.variants else next(iter(machine.variants))
    precision = "fp32" if machine.device == "cpu" else "fp16"
    model, spec = random_mixer(machine.variants[name]), spec_of(name, machine.variants[name])
    kind = replace(PHOTOGRAPHS[0], pool=4) if machine.quick else PHOTOGRAPHS[0]
    bundle = gpu_http_models.knowing_bundle(model, spec, kind, decoder(spec), precision, machine.work)
    small, large = machine.open(machine.bundle), machine.open(bundle, precision=precision)
    return [
        gpu_http_models.served(title, folder, engine, images, decoder(engine.spec), machine.work, machine.figures)
        for title, folder, engine, images in (
            (SMALL, machine.bundle, small, small_kind(small.spec)),
            (name, bundle, large, kind),
        )
    ]


SECTIONS: dict[str, Callable[[Machine, Section], None]] = {
    "surroundings": surroundings,
    "provider": provider,
    "parity": parity,
    "rungs": buckets,
    "memory": memory,
    "throughput": throughput,
    "end_to_end": end_to_end,
    "http": http,
}


# --- the frame around them ---

UNDER_WAY = "under way"


def _line(cells: Row) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def run_section(section: Section, machine: Machine) -> None:
    """One section, whatever becomes of it."""
    started = time.monotonic()
    try:
        SECTIONS[section.name](machine, section)
    except Exception:  # noqa: BLE001 -- one section's failure must not cost the others
        section.expect(holds=False, otherwise=traceback.format_exc())
    section.took_s = time.monotonic() - started
    section.verdict = "FAILED" if not section.ok else section.verdict or "ok"
    machine.figures[section.name] = section.figures


def write(sections: Sequence[Section], out: Path) -> None:
    content = {
        section.name: {
            "ok": section.ok, "verdict": section.verdict or UNDER_WAY, "took_s": section.took_s,
            "failures": section.failures, **section.figures
        }
        for section in sections
    }  # fmt: skip
    (out / "gpu.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    lines = ["# On a GPU", ""]
    for section in sections:
        verdict = section.verdict or UNDER_WAY
        lines += [f"## {section.name.replace('_', ' ')}: {verdict} ({section.took_s:.0f} s)", "", *section.markdown]
        for failure in section.failures:
            lines += ["```", failure.rstrip(), "```", ""]
    (out / "gpu.md").write_text("\n".join(lines), encoding="utf-8")


@contextmanager
def machine_for(options: argparse.Namespace) -> Iterator[Machine]:
    named = {name: replace(VARIANTS[name], gelu="erf") for name in options.variants.split(",")}  # timm's GELU
    chosen = TINY if options.quick else named
    until = time.monotonic() + options.time_limit_s if options.time_limit_s else float("inf")
    with tempfile.TemporaryDirectory() as folder:
        yield Machine(
            provider=options.provider,
            quick=options.quick,
            bundle=options.bundle,
            work=Path(folder),
            variants=chosen,
            batch_sizes=(1, 2) if options.quick else options.batch_sizes,
            seconds=QUICK_SECONDS if options.quick else options.seconds or SECONDS,
            http_seconds=QUICK_HTTP_SECONDS if options.quick else options.seconds or HTTP_SECONDS,
            rounds=1 if options.quick else options.rounds,
            workers=(1, 2) if options.quick else options.workers,
            connections=(2, 4) if options.quick else options.connections,
            until=until,
            wheels=options.wheels,
        )


def main(options: argparse.Namespace) -> int:
    """Run the sections, write after each. Returns the exit code: 1 where any failed."""
    names = [name for name in options.sections.split(",") if name] or list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"--sections has {', '.join(unknown)}; expected some of {', '.join(SECTIONS)}.", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    if options.provider == "cuda":
        load_libraries("cuda")  # for the sessions that no engine opens; what is missing is told where it is needed
    sections: list[Section] = []
    with machine_for(options) as machine:
        for name in names:
            section = Section(name, save=lambda: write(sections, options.out))
            sections.append(section)
            run_section(section, machine)
            section.save()
            print(f"{name}: {section.verdict} ({section.took_s:.1f} s)", flush=True)
            for failure in section.failures:
                print(failure.rstrip(), file=sys.stderr, flush=True)
    return 0 if all(section.ok for section in sections) else 1


if __name__ == "__main__":
    sys.exit(main(options))
