"""Right answers: every graph against fp32 on the CPU, and every batch bucket against the plain graph."""

from collections.abc import Sequence

import numpy as np

from app.engine.cuda_graphs import BatchBucketRunner, batch_buckets
from app.engine.engine import Engine, EngineOptions, find_graphs, open_engine
from app.engine.gpu_buffers import OrtMemory
from app.errors import EngineError
from benchmarks.on_gpu.logits import Logits, agreement, difference, plain_logits
from benchmarks.on_gpu.machine import Machine
from benchmarks.on_gpu.patches import Patches, images_of, noise
from benchmarks.on_gpu.sections import Row, Section

TOLERANCES = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.2}  # of the logits' range, against fp32 on the CPU
AGREEMENTS = {"fp32": 1.0, "fp16": 0.97, "int8": 0.95}  # how many of the best labels must be the same
REPLAY_TOLERANCE = 0.02  # of the logits' range: another kernel may round otherwise
BUCKET = ("rung", "pictures", "padding", "difference", "same")
REFUSED_ON_A_GPU = "int8"


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
