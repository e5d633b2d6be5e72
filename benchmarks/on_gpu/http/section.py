"""The section `http`: skipped where the packages of the service are missing."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from benchmarks.on_gpu.machine import SMALL, Machine
from benchmarks.on_gpu.memory import bytes_in_use
from benchmarks.on_gpu.networks import random_mixer, spec_of
from benchmarks.on_gpu.patches import decoder
from benchmarks.on_gpu.requirements import HTTP_PACKAGES, absent
from benchmarks.on_gpu.sections import Section

if TYPE_CHECKING:  # what it imports may be missing
    from benchmarks.on_gpu.http.services import Model

PHOTOGRAPHIC = "S/16"  # with random weights, the one that is served, too


def http(machine: Machine, section: Section) -> None:
    """The whole service over HTTP with 1, 2, ... workers, under closed loops; its answers are those of the engine."""
    lacking = absent(HTTP_PACKAGES, machine.wheels)
    if lacking or machine.out_of_time():
        section.verdict = "skipped"
        section.figures["skipped"] = lacking or "out of time"
        section.say(f"Skipped. Missing: {'; '.join(lacking)}." if lacking else "Not measured, out of time.")
        print(section.markdown[0], file=sys.stderr)
        return
    from benchmarks.on_gpu.http import loads, services, tables  # noqa: PLC0415  # what they import may be missing

    plan = services.Plan(
        provider=machine.provider,
        workers=machine.workers,
        connections=machine.connections,
        seconds=machine.http_seconds,
        rounds=machine.rounds,
        until=machine.until,
        work=machine.work,
        used_bytes=(lambda: bytes_in_use("cuda")) if machine.device == "cuda" else None,
    )

    def tell(found: Sequence[loads.Found]) -> None:
        tables.tell(section, plan, found)
        section.save()

    for found in loads.measure(plan, served_models(machine), tell):
        for fault in found.faults():
            section.expect(holds=False, otherwise=fault)


def served_models(machine: Machine) -> list["Model"]:
    """The small model for small pictures; for photographs a network with random weights, on a GPU in half precision.

    The engines that give the right answers are gone before any service starts.
    """
    from benchmarks.on_gpu.http import models  # noqa: PLC0415
    from benchmarks.serving.__main__ import PHOTOGRAPHS, small_kind  # noqa: PLC0415

    name = PHOTOGRAPHIC if PHOTOGRAPHIC in machine.variants else next(iter(machine.variants))
    precision: Literal["fp32", "fp16"] = "fp32" if machine.device == "cpu" else "fp16"
    model, spec = random_mixer(machine.variants[name]), spec_of(name, machine.variants[name])
    kind = replace(PHOTOGRAPHS[0], pool=4) if machine.quick else PHOTOGRAPHS[0]
    bundle = models.knowing_bundle(model, spec, kind, decoder(spec), precision, machine.work)
    small, large = machine.open(machine.bundle), machine.open(bundle, precision=precision)
    return [
        models.served(title, folder, engine, images, decoder(engine.spec), machine.work, machine.figures)
        for title, folder, engine, images in (
            (SMALL, machine.bundle, small, small_kind(small.spec)),
            (name, bundle, large, kind),
        )
    ]
