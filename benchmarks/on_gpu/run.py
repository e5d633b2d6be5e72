"""All sections, one after the other: whatever becomes of one, the others run."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable

from app.engine.providers import load_libraries
from benchmarks.on_gpu.correctness import buckets, parity
from benchmarks.on_gpu.end_to_end import end_to_end
from benchmarks.on_gpu.http.section import http
from benchmarks.on_gpu.machine import Machine, machine_for
from benchmarks.on_gpu.memory import memory
from benchmarks.on_gpu.sections import Section, write
from benchmarks.on_gpu.surroundings import provider, surroundings
from benchmarks.on_gpu.throughput import throughput

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


def run(options: argparse.Namespace) -> int:
    """Run the sections, write after each. Returns the exit code: 1 where any failed, 2 for a section that is none."""
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
