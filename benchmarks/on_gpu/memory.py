"""Whether memory stays level while batches of random sizes go through every instance."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.on_gpu.machine import Machine
from benchmarks.on_gpu.patches import noise
from benchmarks.on_gpu.sections import Section

MEBIBYTE = 1 << 20
FLAT_BYTES = 16 * MEBIBYTE


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
