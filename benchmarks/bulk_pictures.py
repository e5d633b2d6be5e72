"""Many small JPEGs, 64x64 to 160x160, as a folder of folders or as a tar: `python bulk_pictures.py OUT --count N`.

2,000 different pictures are drawn; the others are the same ones under other names.
"""

import argparse
import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

DIFFERENT, A_FOLDER = 2_000, 5_000


def picture(seed: int) -> bytes:
    """A JPEG of soft shapes and some grain."""
    generator = np.random.default_rng(seed)
    width, height = generator.integers(64, 161, 2)
    coarse = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC))
    grain = generator.normal(0, 6, pixels.shape)
    file = io.BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def write(out: Path, count: int) -> None:
    files = [picture(seed) for seed in range(min(count, DIFFERENT))]
    names = (f"{at // A_FOLDER:04}/{at:08}.jpg" for at in range(count))
    if out.suffix == ".tar":
        with tarfile.open(out, "w") as archive:
            _each(names, files, lambda name, payload: _add(archive, name, payload))
        return

    def put(name: str, payload: bytes) -> None:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)

    _each(names, files, put)


def _each(names: Iterable[str], files: list[bytes], put: Callable[[str, bytes], None]) -> None:
    for at, name in enumerate(names):
        put(name, files[at % len(files)])


def _add(archive: tarfile.TarFile, name: str, payload: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(payload)
    archive.addfile(member, io.BytesIO(payload))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="Folder, or a file that ends in .tar.")
    parser.add_argument("--count", type=int, default=200_000)
    arguments = parser.parse_args()
    write(arguments.out, arguments.count)
