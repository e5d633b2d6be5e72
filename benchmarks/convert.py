"""Foreign weights to a bundle, with torch and without: time, processor time, memory, and the speed of both graphs.

    python benchmarks/convert.py S/16 B/16

Weights are random, of a variant's true sizes, in Google's layout. Each conversion runs in a process of its own; both
prove fp32 and fp16 on the same pictures. The graphs run in turn, on one thread, in that thread's own processor time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from cli.bench.stopwatch import Candidate, measure, ratio
from export.graph import INPUT, LOGITS
from model.weights.config import VARIANTS
from model.weights.layouts import GOOGLE

_WAYS = ("torch", "direct")


def write_weights(variant: str, path: Path) -> None:
    """Random weights of a variant in Google's layout."""
    generator = np.random.default_rng(0)
    tensors = {}
    for entry in GOOGLE.entries(replace(VARIANTS[variant], gelu="tanh")):
        numbers = generator.standard_normal(entry.shape, dtype=np.float32)
        if len(entry.shape) == 1:
            tensors[entry.theirs] = numbers * np.float32(0.1) + np.float32(entry.theirs.endswith("scale"))
        else:
            tensors[entry.theirs] = numbers / np.float32(np.sqrt(np.prod(entry.shape[:-1])))
    np.savez(path, **tensors)


def convert(way: str, weights: Path, bundle: Path) -> None:
    """Convert in this process, and print what it took as JSON."""
    if way == "direct":
        sys.modules["torch"] = None  # type: ignore[assignment]
    from export.bundle import ExportData, publish  # noqa: PLC0415
    from export.direct import convert as direct  # noqa: PLC0415
    from export.direct.network import ArrayNetwork  # noqa: PLC0415
    from model.network import foreign  # noqa: PLC0415

    if way == "direct":
        published = direct.convert(weights, None, None, bundle)
    else:
        from export.to_onnx import TorchNetwork  # noqa: PLC0415
        from model.network import zoo  # noqa: PLC0415

        found = foreign.read(weights)
        data = ExportData(direct.few_images(ArrayNetwork(found.weights, found.spec)))
        published = publish(TorchNetwork(zoo.read(weights)), bundle, data, data.precisions)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    differences = {precision: graph.parity.relative_difference for precision, graph in published.graphs.items()}
    print(json.dumps({"peak_mb": peak, "cpu_s": time.process_time(), "differences": differences}))


def timed(way: str, weights: Path, bundle: Path) -> dict[str, float]:
    """One conversion in a process of its own."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, str(weights), str(bundle)]
    found = json.loads(subprocess.check_output(command, text=True))
    return {"s": time.perf_counter() - started, **found}


def speed_ratio(bundles: dict[str, Path]) -> float:
    """How fast the fp32 graph that was written directly answers, relative to the one that torch traced."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    patches = np.random.default_rng(0).integers(0, 256, (4, 196, 768), dtype=np.uint8)

    def candidate(way: str) -> Candidate[str]:
        path = str(bundles[way] / "fp32.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return Candidate(way, lambda: float(len(session.run([LOGITS], {INPUT: patches})[0])))

    found = measure([candidate(way) for way in _WAYS], seconds=1.0, rounds=9, clock=time.thread_time)
    return ratio(found["direct"], found["torch"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=_WAYS)
    parser.add_argument("rest", nargs="+", help="variants, as S/16; with --way a file and a bundle")
    arguments = parser.parse_args()
    if arguments.way:
        convert(arguments.way, *map(Path, arguments.rest))
        return
    for variant in arguments.rest:
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / f"Mixer-{variant.replace('/', '_')}.npz"
            write_weights(variant, weights)
            print(variant, f"{weights.stat().st_size / 2**20:.0f} MiB, load {os.getloadavg()[0]:.1f}", flush=True)
            bundles = {way: Path(folder) / way for way in _WAYS}
            for way in _WAYS:
                print(" ", way, timed(way, weights, bundles[way]), flush=True)
            print("  speed of the fp32 graph, direct to torch's:", speed_ratio(bundles), flush=True)


if __name__ == "__main__":
    main()
