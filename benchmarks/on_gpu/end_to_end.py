"""From picture files to logits without HTTP: decoding, the model, both, and which of them binds."""

from collections.abc import Iterator
from typing import Any

from app.engine.engine import Engine
from app.system.cpu_limits import usable_cpus
from benchmarks.on_gpu.machine import SMALL, Machine
from benchmarks.on_gpu.patches import decoder
from benchmarks.on_gpu.sections import Row, Section
from cli.bench.ceilings import Classifying, Decoding, Running, classifyings, decodings, doublings, runnings
from cli.bench.findings import Findings
from cli.bench.rig import Opened, Split
from cli.bench.samples import Samples, generated
from cli.bench.stopwatch import Candidate


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
