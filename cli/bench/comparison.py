"""`mixer bench`: opens the engines, times everything side by side, and describes the machine."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from app.decoding.decoder import DecodeLimits, decode
from app.engine import int8_probe
from app.system.cpu_limits import int8_instructions, usable_cpus
from cli.bench import samples
from cli.bench.ceilings import Decode, classifyings, decodings, doublings, runnings
from cli.bench.findings import Findings, Subject
from cli.bench.peaks import SIZES, products
from cli.bench.rig import Rig, set_up
from cli.bench.samples import Samples
from cli.bench.stopwatch import Candidate, Progress, measure
from model.preprocess import smallest_useful_side, to_patches
from model.spec import ModelSpec

_AT_A_TIME = (1, 4, 8, 16)  # pictures that a bare thread decodes before it runs them
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long. `pictures`: the user's folder; `precision` auto: every graph of the bundle."""

    bundle: Path
    decode_limits: DecodeLimits
    provider: str = "auto"
    precision: str = "auto"
    pictures: Path | None = None
    max_batch_size: int = 32
    seconds: float = 0.5
    rounds: int = 3
    product_sizes: tuple[int, ...] = SIZES


@dataclass(frozen=True)
class Circumstances:
    """The machine and the versions behind the figures. `refused`: precision and reason."""

    bundle: str
    model: str
    version: str
    variant: str
    processor: str
    cpus: int
    int8_instructions: str | None
    int8_products: int8_probe.Products
    precision_reason: str
    onnxruntime: str
    pictures: str
    mean_picture_bytes: int
    seconds: float
    rounds: int
    refused: dict[str, str]


@dataclass(frozen=True)
class Report:
    """All results of one comparison."""

    circumstances: Circumstances
    findings: Findings

    def as_json(self) -> dict[str, Any]:
        """Everything, for a program to read."""
        return {"circumstances": asdict(self.circumstances), **self.findings.as_json()}


def run(plan: Plan, progress: Progress) -> Report:
    """Measure everything. Raises StartError."""
    cpus = usable_cpus()
    rig = set_up(
        plan.bundle,
        provider=plan.provider,
        precision=plan.precision,
        max_batch_size=plan.max_batch_size,
        cpus=cpus,
    )
    decoder = _decoder(rig.spec, plan.decode_limits)
    pictures = _pictures(plan.pictures, rig.spec, decoder)
    candidates = _candidates(plan, rig, pictures.files, decoder, cpus)
    measured = measure(candidates, seconds=plan.seconds, rounds=plan.rounds, progress=progress)
    findings = Findings(measured, rig.provider, rig.precision, rig.split, rig.batch_size, rig.spec.gflops)
    return Report(_circumstances(plan, rig, pictures, cpus), findings)


def _candidates(plan: Plan, rig: Rig, files: Sequence[bytes], decoder: Decode, cpus: int) -> list[Candidate[Subject]]:
    patches = [decoder(file) for file in files]
    batch_sizes = sorted({*doublings(plan.max_batch_size), rig.batch_size})
    at_a_time = [size for size in sorted({*_AT_A_TIME, rig.batch_size}) if size <= plan.max_batch_size]
    candidates: list[Candidate[Any]] = [*decodings(files, decoder, cpus)]
    for opened in rig.opened:
        candidates += runnings(opened, patches, batch_sizes)
    for opened in rig.at_work(cpus):
        candidates += classifyings(opened, files, decoder, cpus, at_a_time)
    if rig.provider == "cpu":
        candidates += products(cpus, int8=int8_instructions() is not None, sizes=plan.product_sizes)
    return candidates


def _decoder(spec: ModelSpec, limits: DecodeLimits) -> Decode:
    """Decode a picture file as the service does."""
    useful_side = smallest_useful_side(spec)
    return lambda payload: to_patches(decode(payload, spec.channels, useful_side, limits), spec)


def _pictures(folder: Path | None, spec: ModelSpec, decoder: Decode) -> Samples:
    return samples.generated(spec.image_size, spec.channels) if folder is None else samples.read(folder, decoder)


def _circumstances(plan: Plan, rig: Rig, pictures: Samples, cpus: int) -> Circumstances:
    return Circumstances(
        bundle=str(plan.bundle),
        model=rig.spec.name,
        version=rig.spec.version,
        variant=rig.spec.variant,
        processor=processor_name(),
        cpus=cpus,
        int8_instructions=int8_instructions(),
        int8_products=int8_probe.probe(),
        precision_reason=rig.precision_reason,
        onnxruntime=onnxruntime.__version__,
        pictures=pictures.description,
        mean_picture_bytes=pictures.mean_bytes,
        seconds=plan.seconds,
        rounds=plan.rounds,
        refused={str(precision): reason for precision, reason in rig.refused.items()},
    )


def processor_name() -> str:
    """The processor's name."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
