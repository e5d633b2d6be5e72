"""images/s by batch size, in half precision, against torch on the same device."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch._dynamo
from torch import Tensor

from benchmarks.on_gpu.candidates import Bound, engine_candidates, torch_candidates, torch_ways
from benchmarks.on_gpu.logits import Logits, difference
from benchmarks.on_gpu.machine import Machine
from benchmarks.on_gpu.networks import spec_of
from benchmarks.on_gpu.patches import Patches, noise
from benchmarks.on_gpu.sections import Row, Section
from cli.bench.stopwatch import Candidate, Measured, ratio
from model.spec import ModelSpec

ON_DEVICE = "ONNX Runtime, bound"
PLACES = ("on the device", "from the host")


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


def against_compiled(figures: Mapping[str, Measured], place: str) -> float:
    """Ours over the faster of torch.compile's two ways, in fp16, round by round."""
    there = {way: found for way, found in figures.items() if way.endswith(place)}
    ours = [found for way, found in there.items() if not way.startswith("torch")]
    theirs = [found for way, found in there.items() if way.startswith("torch.compile fp16")]
    return ratio(max(ours, key=lambda found: found.rate), max(theirs, key=lambda found: found.rate))
