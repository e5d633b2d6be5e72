"""What it costs to read a graph's embedding beside its logits, and how near an int8 graph's is to that of fp32.

    python benchmarks/embeddings.py [--bundle bundles/clothes] [--runs 3000]

Both ways to run the int8 graph in turn, run by run, on one session of one thread, in the processor time of that thread,
which does not grow while others have the processor; prints Markdown. The pictures are those of examples/ and, where it
is installed, of scikit-image: pip install scikit-image
"""

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.decoding.decoder import DecodeLimits, decode
from app.engine.engine import EngineOptions, open_engine
from app.engine.metadata import embedding_dim
from app.engine.runners import Patches, SessionRunner
from app.engine.session import ONNX_RUNTIME, CpuThreads, open_session
from app.errors import ServiceError
from cli.bench.stopwatch import Candidate, measure, ratio
from model.preprocess import smallest_useful_side, to_patches
from model.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
KINDS = {".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff"}
BATCH_SIZES = (1, 16)
ONE_RUN_S = 1e-9
LIMITS = DecodeLimits(max_bytes=64 << 20, max_pixels=50_000_000)


def pictures() -> dict[str, list[Path]]:
    """Where pictures come from, and their files."""
    folders = {"examples/": ROOT / "examples"}
    if (spec := find_spec("skimage")) is not None and spec.origin is not None:
        folders["scikit-image"] = Path(spec.origin).parent / "data"
    return {name: sorted(p for p in folder.iterdir() if p.suffix in KINDS) for name, folder in folders.items()}


def patches_of(paths: list[Path], spec: ModelSpec) -> dict[str, Patches]:
    """What the service makes of each file that it takes, by its name."""
    found: dict[str, Patches] = {}
    for path in paths:
        try:
            pixels = decode(path.read_bytes(), spec.channels, smallest_useful_side(spec), LIMITS)
            found[path.name] = to_patches(pixels, spec)
        except ServiceError as error:
            print(f"{path.name} is left out: {error}\n")
    return found


def embeddings(bundle: Path, precision: str, patches: list[Patches]) -> NDArray[np.float32]:
    """float32 [n, C], each picture alone in its run."""
    engine = open_engine(EngineOptions(bundle, "cpu", precision, instances=1, intra_op_threads=1, max_batch_size=1))
    found = [engine.run([one]).embedding for one in patches]
    return np.concatenate([one for one in found if one is not None])


def cosines(bundle: Path, spec: ModelSpec) -> None:
    """Of the int8 graph's embeddings to those of fp32."""
    print("| pictures of | number | median cosine | least | of |\n|---|---|---|---|---|")
    for source, paths in pictures().items():
        patches = patches_of(paths, spec)
        fp32, int8 = (embeddings(bundle, each, list(patches.values())).astype(np.float64) for each in ("fp32", "int8"))
        norms = np.linalg.norm(fp32, axis=1) * np.linalg.norm(int8, axis=1)
        found = (fp32 * int8).sum(axis=1) / norms
        least = int(found.argmin())
        print(f"| {source} | {len(found)} | {np.median(found):.5f} | {found[least]:.5f} | {list(patches)[least]} |")


def cost(bundle: Path, spec: ModelSpec, runs: int) -> None:
    """Logits alone against both outputs, on the same session."""
    session = open_session(bundle / "int8.onnx", "cpu", 0, CpuThreads(), ONNX_RUNTIME)
    runners = {"logits": SessionRunner(session), "both": SessionRunner(session, embedding_dim(session))}
    rng = np.random.default_rng(0)
    print("| batch | logits alone, ms | both, ms | ratio of times: median (quartiles) |\n|---|---|---|---|")
    for size in BATCH_SIZES:
        batch = list(rng.integers(0, 256, (size, spec.num_patches, spec.patch_bytes), dtype=np.uint8))

        def candidate(name: str, batch: list[Patches] = batch) -> Candidate[str]:
            def work() -> float:
                runners[name].run(batch)
                return 1

            return Candidate(name, work)

        found = measure(
            [candidate(name) for name in runners], seconds=ONE_RUN_S, rounds=runs // size, clock=time.thread_time
        )
        logits, both = found["logits"], found["both"]
        each = [a / b for a, b in zip(logits.rounds, both.rounds, strict=True)]
        low, high = np.quantile(each, (0.25, 0.75))
        print(
            f"| {size} | {1000 / logits.rate:.3f} | {1000 / both.rate:.3f} "
            f"| {ratio(logits, both):.4f} ({low:.4f} to {high:.4f}) |",
            flush=True,
        )


def main() -> None:
    """Measure both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--runs", type=int, default=3000, help="of one picture each; of larger batches fewer")
    arguments = parser.parse_args()
    spec = open_engine(EngineOptions(arguments.bundle, "cpu", "int8", max_batch_size=1)).spec
    cosines(arguments.bundle, spec)
    print()
    cost(arguments.bundle, spec, arguments.runs)


if __name__ == "__main__":
    main()
