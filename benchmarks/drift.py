"""What mixer_drift_psi says of traffic that is as expected, and of traffic that is not.

    python -m benchmarks.drift FASHION_MNIST [--images N] [--seed S]

FASHION_MNIST: the folder of its IDX files. Serves bundles/fashion-mnist in one process, sends it N pictures of the test
split for each kind of traffic, as many as the window holds, and prints the three indices after each.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans
from benchmarks.serving.server import Probe, serving
from model.data.idx import read_split

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 50
Pixels = NDArray[np.uint8]


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noisy(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    noise = generator.normal(0, 60, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def streams(
    images: Pixels, labels: NDArray[np.int64], count: int, generator: np.random.Generator
) -> dict[str, Callable[[], Pixels]]:
    """Pictures [count, H, W] of each kind of traffic, by its name."""

    def some(of: Pixels) -> Pixels:
        return of[generator.choice(len(of), count, replace=len(of) < count)]

    return {
        "as expected": lambda: some(images),
        "as expected, others": lambda: some(images),
        "one class in ten": lambda: some(images[labels == 5]),
        "no shoes": lambda: some(images[~np.isin(labels, (5, 7, 9))]),
        "noise": lambda: noisy(some(images), generator),
        "half of it noise": lambda: np.concatenate(
            [some(images)[: count // 2], noisy(some(images), generator)[: count // 2]]
        ),
        "upside down": lambda: some(images)[:, ::-1],
    }  # fmt: skip


def indices(port: int) -> dict[str, float]:
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    found = (line for line in lines if line.startswith("mixer_drift_psi{"))
    return {line.split('of="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    images, labels = read_split(asked.data, "test")
    adopt_orphans()
    probe = Probe("/classify", "image/png", png(images[0]))
    variables = {
        "MIXER_BUNDLE": str(ROOT / "bundles" / "fashion-mnist"), "MIXER_PORT": "{port}", "MIXER_WORKERS": "1",
        "MIXER_LOG_LEVEL": "warning",
    }  # fmt: skip
    configuration = Configuration("this service", "this service", ("mixer", "serve"), variables)
    print("| traffic | classes | probability | energy |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as made:
        every = streams(images, labels, asked.images, np.random.default_rng(asked.seed))
        with serving(configuration, ROOT / ".venv" / "bin", probe, Path(made) / "log") as server:
            for name, stream in every.items():  # each fills the window, and the one before it is forgotten
                pictures = [png(pixels) for pixels in stream()]
                for start in range(0, len(pictures), AT_ONCE):
                    files = [("file", ("a.png", one)) for one in pictures[start : start + AT_ONCE]]
                    url = f"http://127.0.0.1:{server.port}/classify/batch"
                    httpx.post(url, files=files, timeout=60).raise_for_status()
                told = indices(server.port)
                print(
                    f"| {name} | {told['classes']:.3f} | {told['probability']:.3f} | {told['energy']:.3f} |", flush=True
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
