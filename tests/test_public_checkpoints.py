"""Public checkpoints by name: import -> export -> serve -> what NumPy says of the same tensors.

The hubs are a server on this machine that answers as theirs do; the weights are random, their names and shapes real;
of one case all twelve blocks are there, of the others two.
"""

import base64
import filecmp
import hashlib
import io
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from safetensors.numpy import load_file, save_file

from app.main import create_service
from app.settings import Settings
from model.network import checkpoint
from model.preprocess import to_pixels, to_square
from model.spec import Fit, Interpolation
from tests.numpy_mixer import erf, google_logits, softmax, timm_logits

VECTORS = Path(__file__).parent / "vectors"
PATCH, HIDDEN, BLOCKS, TOKENS, TOKENS_MLP, CHANNELS_MLP, CLASSES = 16, 768, 12, 196, 384, 3072, 1000
NUM_PARAMETERS = 59_880_472
TOLERANCE = 1e-5  # of the logits' range; the other GELU is 1e-4 away
WORDS = {0: "tench", 1: "goldfish", 134: "crane (bird)", 207: "golden retriever", 281: "tabby", 517: "crane (machine)"}

Tensors = dict[str, NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Case:
    """A name, and what its file holds and asks for."""

    name: str
    num_blocks: int
    interpolation: Interpolation
    gelu: str
    pixel_mean: float
    pixel_std: float

    def tensors(self) -> Tensors:
        return drawn((google_shapes if self.is_google else timm_shapes)(self.num_blocks), seed=11)

    @property
    def is_google(self) -> bool:
        return self.name.startswith("google:")

    def reference(self, tensors: Tensors, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Logits [N, K] of uint8 [N, 224, 224, 3], by NumPy."""
        normalised = (images.astype(np.float64) - self.pixel_mean) / self.pixel_std
        return (google_logits if self.is_google else timm_logits)(tensors, normalised)


CASES = {
    "google": Case("google:imagenet1k/Mixer-B_16", 2, "bilinear", "tanh", 127.5, 127.5),
    "timm": Case("timm:mixer_b16_224.goog_in21k_ft_in1k", BLOCKS, "bicubic", "erf", 127.5, 127.5),
    "miil": Case("timm:mixer_b16_224.miil_in21k_ft_in1k", 2, "bilinear", "erf", 0, 255),
}
every_case = pytest.mark.parametrize("imported", CASES, indirect=True)
pytestmark = [
    pytest.mark.process,
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
]


# --- files of the true names and shapes ---


def google_shapes(num_blocks: int) -> Shapes:
    shapes: Shapes = {"stem/kernel": (PATCH, PATCH, 3, HIDDEN), "stem/bias": (HIDDEN,)}
    for index in range(num_blocks):
        block = f"MixerBlock_{index}"
        for norm in (0, 1):
            shapes |= {f"{block}/LayerNorm_{norm}/scale": (HIDDEN,), f"{block}/LayerNorm_{norm}/bias": (HIDDEN,)}
        for mlp, dim, mlp_dim in (("token_mixing", TOKENS, TOKENS_MLP), ("channel_mixing", HIDDEN, CHANNELS_MLP)):
            first, second = f"{block}/{mlp}/Dense_0", f"{block}/{mlp}/Dense_1"
            shapes |= {f"{first}/kernel": (dim, mlp_dim), f"{first}/bias": (mlp_dim,)}
            shapes |= {f"{second}/kernel": (mlp_dim, dim), f"{second}/bias": (dim,)}
    shapes |= {"pre_head_layer_norm/scale": (HIDDEN,), "pre_head_layer_norm/bias": (HIDDEN,)}
    return shapes | {"head/kernel": (HIDDEN, CLASSES), "head/bias": (CLASSES,)}


def timm_shapes(num_blocks: int) -> Shapes:
    shapes: Shapes = {"stem.proj.weight": (HIDDEN, 3, PATCH, PATCH), "stem.proj.bias": (HIDDEN,)}
    for index in range(num_blocks):
        block = f"blocks.{index}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (HIDDEN,), f"{block}.{norm}.bias": (HIDDEN,)}
        for mlp, dim, mlp_dim in (("mlp_tokens", TOKENS, TOKENS_MLP), ("mlp_channels", HIDDEN, CHANNELS_MLP)):
            shapes |= {f"{block}.{mlp}.fc1.weight": (mlp_dim, dim), f"{block}.{mlp}.fc1.bias": (mlp_dim,)}
            shapes |= {f"{block}.{mlp}.fc2.weight": (dim, mlp_dim), f"{block}.{mlp}.fc2.bias": (dim,)}
    shapes |= {"norm.weight": (HIDDEN,), "norm.bias": (HIDDEN,)}
    return shapes | {"head.weight": (CLASSES, HIDDEN), "head.bias": (CLASSES,)}


def drawn(shapes: Shapes, seed: int) -> Tensors:
    """Random weights under which pictures differ: kernels by their fan-in, norms around 1, biases around 0.

    The stem's bias is so small that the tokens of an even grey are too, and the norm's epsilon counts.
    """
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            fan_in = math.prod(shape[:-1] if name.endswith("kernel") else shape[1:])
            tensors[name] = values * np.float32((4 if name.startswith("head") else 1) / math.sqrt(fan_in))
        elif name.endswith("bias"):
            tensors[name] = values * np.float32(1e-3 if name.startswith("stem") else 0.02)
        else:
            tensors[name] = 1 + values * np.float32(0.1)
    return tensors


def photo() -> bytes:
    """A JPEG of 500 x 375 with soft hills, hard edges and grain, as a camera would write it."""
    generator = np.random.default_rng(5)
    image = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        left, top, width, height = (int(value) for value in generator.integers((0, 0, 30, 30), (450, 320, 160, 160)))
        ink = tuple(int(value) for value in generator.integers(0, 256, 3))
        pen.ellipse((left, top, left + width, top + height), fill=ink)
    grain = generator.normal(0, 6, (375, 500, 3))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1))) + grain
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


# --- the hubs ---


@dataclass(frozen=True)
class Served:
    """A file under an address, with the headers of its hub; `redirect` ones come with a 302 that leads to it."""

    path: Path
    headers: list[tuple[str, str]]
    redirect: list[tuple[str, str]] = field(default_factory=list)


class Hubs(ThreadingHTTPServer):
    """Google's storage under /mixer_models and Hugging Face under /timm. The first download of all breaks off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.storage = f"http://localhost:{self.server_address[1]}/cdn"  # another host, as the hub's is
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.breaks_off = True

    def offer(self, case: Case, path: Path) -> None:
        """Serve `path` as the checkpoint that `case` names."""
        with path.open("rb") as file:
            md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
            while chunk := file.read(1 << 20):
                md5.update(chunk)
                sha256.update(chunk)
        rest = case.name.partition(":")[2]
        etag = ("ETag", f'"{md5.hexdigest()}"')
        if case.is_google:
            digest = ("x-goog-hash", f"md5={base64.b64encode(md5.digest()).decode()}")
            self.files[f"/mixer_models/{rest}.npz"] = Served(path, [etag, ("x-goog-hash", "crc32c=AAAAAA=="), digest])
        else:
            linked = [("X-Linked-Etag", f'"{sha256.hexdigest()}"'), ("X-Linked-Size", str(path.stat().st_size))]
            linked.append(("X-Repo-Commit", "c0ffee" * 6 + "c0de"))
            self.files[f"/timm/{rest}/resolve/main/model.safetensors"] = Served(path, [etag], linked)


class _Handler(BaseHTTPRequestHandler):
    server: Hubs

    def do_HEAD(self) -> None:
        self._redirect(self.server.files[self.path])

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        served = self.server.files[self.path.removeprefix("/cdn")]
        if served.redirect and not self.path.startswith("/cdn"):
            self._redirect(served)
            return
        size = served.path.stat().st_size
        start = 0
        if wanted is not None and ("ETag", self.headers.get("If-Range", served.headers[0][1])) in served.headers:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        ranged = [("Content-Range", f"bytes {start}-{size - 1}/{size}")] if start else []
        self._head(206 if start else 200, [*served.headers, *ranged], size - start)
        with served.path.open("rb") as file:
            file.seek(start)
            if self.server.breaks_off:
                self.server.breaks_off = False
                size //= 2
            while file.tell() < size:
                self.wfile.write(file.read(min(1 << 20, size - file.tell())))
        self.close_connection = True

    def _redirect(self, served: Served) -> None:
        location = ("Location", f"{self.server.storage}{self.path}")
        self._head(302, [*served.redirect, location, ("ETag", '"redirect"')], 0)

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(length))):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[Hubs]:
    with Hubs() as hubs:
        thread = threading.Thread(target=hubs.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hubs
        finally:
            hubs.shutdown()
            thread.join()


# --- the commands ---


def mixer(folder: Path, *arguments: str, hubs: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, where nothing but `hubs` can be reached."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {
        "MIXER_GOOGLE_MODELS_URL": f"{hubs}/mixer_models",
        "HF_ENDPOINT": hubs,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HOME": str(folder / "cache" / "huggingface"),
    }
    command = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


@dataclass(frozen=True)
class Imported:
    """What `mixer import` did, in a folder with checkpoint/, and NumPy's logits of the photo and of an even grey."""

    case: Case
    folder: Path
    tries: list[subprocess.CompletedProcess[str]]
    requests: list[tuple[str, str | None]]
    num_bytes: int  # of the file that was served
    arrived_whole: bool  # what lies in the cache is the same, byte by byte
    images: NDArray[np.uint8]
    logits: NDArray[np.float64]


@pytest.fixture(scope="module")
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    """One of CASES, imported twice; the first downloads it. Its files are up to half a gigabyte, and gone then."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    try:
        yield import_twice(case, folder)
    finally:
        shutil.rmtree(folder)


def import_twice(case: Case, folder: Path) -> Imported:
    tensors = case.tensors()
    original = folder / f"original.{'npz' if case.is_google else 'safetensors'}"
    if case.is_google:
        np.savez(original, **tensors)
    else:
        save_file(tensors, original)
    with serving() as hubs:
        hubs.offer(case, original)
        tries = [mixer(folder, "import", case.name, "checkpoint", hubs=hubs.url) for _ in range(2)]
    assert tries[1].returncode == 0, tries[1].stderr
    (cached,) = (path for path in (folder / "cache").rglob("*.[ns][pa][zf]*") if path.is_symlink() or case.is_google)
    cached = cached.resolve()
    num_bytes, arrived_whole = original.stat().st_size, filecmp.cmp(original, cached, shallow=False)
    original.unlink()
    cached.unlink()
    with Image.open(io.BytesIO(photo())) as image:
        square = to_square(to_pixels(image, 3), 224, Fit(crop_percentage=0.875), case.interpolation)
    images = np.stack([square, np.full_like(square, 128)])
    logits = case.reference(tensors, images)
    return Imported(case, folder, tries, hubs.requests, num_bytes, arrived_whole, images, logits)


@pytest.fixture(scope="module")
def bundle(imported: Imported) -> Path:
    """bundle/. Google's is proved on 32 generated pictures; timm's, which is large, on the two there are."""
    if not imported.case.is_google:
        images = imported.folder / "checkpoint" / "pictures"
        images.mkdir()
        for index, pixels in enumerate(imported.images):
            Image.fromarray(pixels).save(images / f"{index:04}.png")
    exported = mixer(imported.folder, "export", "checkpoint", "bundle", "--precisions", "fp32")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.startswith("bundle/fp32.onnx: differs from torch by ")
    assert exported.stdout.endswith("same best label on 100.0%\n")
    return imported.folder / "bundle"


# --- the yardstick itself ---


def test_the_quadrature_for_erf_is_the_error_function():
    x = np.linspace(-8, 8, 4001)
    np.testing.assert_allclose(erf(x), [math.erf(value) for value in x], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("layout", "read", "logits"),
    [("google_tiny.npz", np.load, google_logits), ("timm_tiny.safetensors", load_file, timm_logits)],
    ids=["google", "timm"],
)
def test_numpy_gives_the_reference_implementations_logits(
    layout: str, read: Callable[[Path], Any], logits: Callable[..., NDArray[np.float64]]
):
    recorded = np.load(VECTORS / f"{layout.partition('.')[0]}_io.npz")
    found = logits(dict(read(VECTORS / layout)), (recorded["pixels"].astype(np.float64) - 127.5) / 127.5)
    np.testing.assert_allclose(found, recorded["logits"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shapes", [google_shapes(BLOCKS), timm_shapes(BLOCKS)], ids=["google", "timm"])
def test_the_files_have_the_true_number_of_parameters(shapes: Shapes):
    assert sum(math.prod(shape) for shape in shapes.values()) == NUM_PARAMETERS


# --- from the name to the answer ---


def variant_of(case: Case) -> str:
    return "B/16" if case.num_blocks == BLOCKS else "custom"


@every_case
def test_an_import_that_breaks_off_goes_on_from_there(imported: Imported):
    first, second = imported.tries
    assert (first.returncode, first.stderr) == (0, "")
    variant = variant_of(imported.case)
    sizes = f"Mixer {variant}, 224 pixels, patch 16, 1000 classes, {imported.case.gelu} GELU"
    assert second.stdout == f"checkpoint: {sizes}\n"
    *_, whole, rest = [entry for entry in imported.requests if imported.case.is_google or entry[0].startswith("/cdn")]
    assert whole[1] is None
    assert rest[1] is not None
    assert 0 < int(rest[1].removeprefix("bytes=").removesuffix("-")) <= imported.num_bytes // 2
    assert imported.arrived_whole


@every_case
def test_a_name_says_how_pictures_are_prepared_and_what_classes_are_called(imported: Imported):
    case, loaded = imported.case, checkpoint.load(imported.folder / "checkpoint")
    config, spec = loaded.model.config, loaded.spec
    assert (spec.variant, spec.image_size, spec.patch_size, spec.channels, spec.num_classes) == (
        variant_of(case),
        224,
        16,
        3,
        1000,
    )
    assert spec.fit == Fit(mode="crop", crop_percentage=0.875)
    assert spec.interpolation == case.interpolation
    assert (config.gelu, config.pixel_mean, config.pixel_std) == (case.gelu, (case.pixel_mean,), (case.pixel_std,))
    assert {index: spec.labels[index] for index in WORDS} == WORDS
    assert spec.source.origin.endswith(imported.requests[0][0].removeprefix("/cdn"))
    num_parameters = sum(tensor.size for tensor in case.tensors().values())
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == num_parameters


@every_case
def test_torch_gives_numpys_logits(imported: Imported):
    model = checkpoint.load(imported.folder / "checkpoint").model
    for found, expected in zip(checkpoint.torch_logits(model, imported.images), imported.logits, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.ptp(expected))
    photographed, grey = imported.logits
    assert np.abs(photographed - grey).max() > 0.05 * np.ptp(grey), "the network sees its picture"


@pytest.mark.parametrize("imported", ["google", "timm"], indirect=True)
async def test_the_service_gives_numpys_answer_to_a_photo(imported: Imported, bundle: Path):
    expected = softmax(imported.logits[0])
    best = np.argsort(-expected)
    app = create_service(Settings(bundle=bundle, provider="cpu", max_batch_size=1, request_timeout_s=600)).app
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        assert (await client.get("/health/ready")).json()["status"] == "ready", "the canary is answered"
        answers = [await client.post(f"/classify?top_k={k}", files={"file": photo()}) for k in (5, CLASSES)]
    assert [answer.status_code for answer in answers] == [200, 200]
    five, every = (answer.json()["predictions"] for answer in answers)
    assert [prediction["index"] for prediction in five] == best[:5].tolist()
    assert five == every[:5]
    for prediction in every:
        assert prediction["probability"] == pytest.approx(expected[prediction["index"]], rel=1e-4)
    labels = {prediction["index"]: prediction["label"] for prediction in every}
    assert {index: labels[index] for index in WORDS} == WORDS


# --- what else can be said to `mixer import` ---


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (CASES["google"].name, "mixer_models/imagenet1k/Mixer-B_16.npz"),
        (CASES["timm"].name, "timm/mixer_b16_224.goog_in21k_ft_in1k/resolve/main/model.safetensors"),
    ],
    ids=["google", "timm"],
)
def test_without_a_network_an_import_is_one_line(tmp_path: Path, name: str, address: str):
    refused = mixer(tmp_path, "import", name, "checkpoint")
    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.strip().split("\n")
    assert line.startswith(f"mixer: http://127.0.0.1:9/{address} cannot be downloaded: ")
    assert not (tmp_path / "checkpoint").exists()


def test_a_file_with_imagenets_classes_can_be_given_its_words(tmp_path: Path):
    tensors = dict(np.load(VECTORS / "google_tiny.npz"))
    tensors |= {"head/kernel": np.zeros((32, 1000), np.float32), "head/bias": np.zeros(1000, np.float32)}
    np.savez(tmp_path / "mine.npz", **tensors)
    done = mixer(tmp_path, "import", "mine.npz", "words", "--labels", "imagenet1k")
    assert done.returncode == 0, done.stderr
    labels = checkpoint.load(tmp_path / "words").spec.labels
    assert {index: labels[index] for index in WORDS} == WORDS


def test_a_file_with_other_classes_cannot_be_given_imagenets_words(tmp_path: Path):
    shutil.copy(VECTORS / "google_tiny.npz", tmp_path)
    refused = mixer(tmp_path, "import", "google_tiny.npz", "checkpoint", "--labels", "imagenet1k")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "mixer: google_tiny.npz has 7 classes; expected as many labels, not 1000.\n"
    assert not (tmp_path / "checkpoint").exists()
