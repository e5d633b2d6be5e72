"""The second classifier that ships: what its own page claims, as far as pictures that are here can show it."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from app.engine.engine import Engine, EngineOptions, open_engine
from model.network import checkpoint
from model.preprocess import Pixels, to_patches, to_pixels, to_square
from model.training.teacher import read_teacher
from tests.processors import as_avx2_only, exact_product, int8_logits, needs_qemu, product_in_int16_pairs

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "bundles" / "fashion-mnist"
DRAWINGS = sorted((ROOT / "tests" / "drawings").glob("*.png"))
EXAMPLES = sorted((ROOT / "examples" / "fashion-mnist").glob("*.png"))


PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    return {
        precision: open_engine(EngineOptions(BUNDLE, provider="cpu", precision=precision, max_batch_size=1))
        for precision in PRECISIONS
    }


@pytest.fixture
def engine(engines: dict[str, Engine]) -> Engine:
    return engines["fp32"]


def pixels_of(path: Path) -> Pixels:
    with Image.open(path) as image:
        return to_pixels(image, 1)


def best_label(engine: Engine, pixels: Pixels) -> str:
    (logits,) = engine.run([to_patches(pixels, engine.spec)]).logits
    return engine.spec.labels[int(logits.argmax())]


def plain(name: str) -> str:
    """A label or a file's name in letters alone, without its number."""
    return re.sub(r"[^a-z]", "", name.lower())


def test_it_has_at_most_one_and_a_half_million_parameters():
    graph = onnx.load(BUNDLE / "fp32.onnx").graph
    assert sum(int(np.prod(tensor.dims)) for tensor in graph.initializer) <= 1_500_000


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_page_states_the_figures_that_its_graphs_carry(engines: dict[str, Engine], precision: str):
    metrics = engines[precision].spec.metrics
    assert metrics is not None
    page = (BUNDLE / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{precision}.onnx` \|.*$", page, re.MULTILINE)
    assert f"| {metrics.top1:.2%} |" in row
    assert f"| {metrics.calibration_error:.4f} |" in row
    assert metrics.num_pictures == 10_000
    assert metrics.top1 >= (0.94 if precision == "int8" else 0.9395)
    assert metrics.calibration_error <= 0.01


def test_half_precision_and_bytes_cost_next_to_nothing(engines: dict[str, Engine]):
    fp32, fp16, int8 = (engines[precision].spec.metrics for precision in PRECISIONS)
    assert fp32 is not None
    assert fp16 is not None
    assert int8 is not None
    assert abs(fp32.top1 - fp16.top1) <= 0.0005
    assert abs(fp32.top1 - int8.top1) <= 0.002


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_graph_holds_a_path_of_the_machine_that_made_it(precision: str):
    content = (BUNDLE / f"{precision}.onnx").read_bytes()
    assert not [word for word in (b"/site-packages/", b"/work/", b"/home/", b"/tmp/") if word in content]


@pytest.mark.heavy
def test_the_checkpoint_beside_it_is_the_same_network(engine: Engine):
    loaded = checkpoint.load(BUNDLE / "checkpoint")
    patches = [to_patches(pixels_of(path), engine.spec) for path in EXAMPLES]
    squares = np.stack(
        [to_square(pixels_of(path), 28, loaded.spec.fit, loaded.spec.interpolation) for path in EXAMPLES]
    )
    expected = checkpoint.torch_logits(loaded.model, squares)
    np.testing.assert_allclose(engine.run(patches).logits, expected, rtol=0, atol=1e-4 * float(np.ptp(expected)))
    assert (loaded.spec.temperature, loaded.spec.labels) == (engine.spec.temperature, engine.spec.labels)


def test_its_teacher_takes_pixels_and_knows_its_classes(engine: Engine):
    teacher = read_teacher(BUNDLE / "teacher.onnx", engine.spec.labels, 1, torch.device("cpu"))
    squares = np.stack([to_square(pixels_of(path), 28, engine.spec.fit, "bicubic") for path in EXAMPLES])
    taught = teacher.logits(torch.from_numpy(squares), len(engine.spec.labels)).argmax(dim=1).tolist()
    assert [plain(engine.spec.labels[index]) for index in taught] == [plain(path.stem) for path in EXAMPLES]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("path", [*EXAMPLES, *DRAWINGS], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_knows_the_examples_and_coloured_drawings_on_white(engines: dict[str, Engine], precision: str, path: Path):
    assert plain(best_label(engines[precision], pixels_of(path))) == plain(path.stem)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("degrees", [-30, -20, 20, 30])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_knows_the_examples_turned(engines: dict[str, Engine], precision: str, degrees: int, path: Path):
    turned = Image.fromarray(pixels_of(path)[:, :, 0]).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=0)
    assert plain(best_label(engines[precision], np.asarray(turned)[:, :, None])) == plain(path.stem)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_picture_that_is_upright_keeps_every_pixel(engine: Engine, path: Path):
    pixels = pixels_of(path)
    np.testing.assert_array_equal(to_square(pixels, 28, engine.spec.fit, "bicubic"), pixels)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_picture_and_its_negative_are_the_same_to_it(engine: Engine, path: Path):
    pixels = pixels_of(path)
    np.testing.assert_array_equal(to_patches(255 - pixels, engine.spec), to_patches(pixels, engine.spec))


# --- int8 on processors of both kinds ---

IN_8_BITS = 127  # the largest byte of each column, whatever stands beside it: what versions before wrote


@pytest.fixture(scope="module")
def int8_graph() -> onnx.ModelProto:
    return onnx.load(BUNDLE / "int8.onnx")


@pytest.fixture(scope="module")
def example_patches(engines: dict[str, Engine]) -> NDArray[np.uint8]:
    return np.stack([to_patches(pixels_of(path), engines["int8"].spec) for path in EXAMPLES])


def with_kernels_in_8_bits(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with kernels that fill their bytes, so that pairs of them leave 16 bits."""
    wide = onnx.ModelProto()
    wide.CopyFrom(graph)
    stored = {tensor.name: tensor for tensor in wide.graph.initializer}
    for name in [name for name in stored if name.endswith(".kernel")]:
        scale = stored[f"{name}_scale"]
        kernel = numpy_helper.to_array(stored[name]) * numpy_helper.to_array(scale)
        step = np.maximum(np.abs(kernel).max(axis=0) / IN_8_BITS, 1e-30).astype(np.float32)
        stored[name].CopyFrom(numpy_helper.from_array(np.rint(kernel / step).astype(np.int8), name))
        scale.CopyFrom(numpy_helper.from_array(step, scale.name))
    return wide


@pytest.mark.heavy
def test_int8_says_the_same_whether_products_are_added_in_32_bits_or_in_16(
    int8_graph: onnx.ModelProto, example_patches: NDArray[np.uint8]
):
    exact = int8_logits(int8_graph, example_patches, exact_product)
    in_pairs = int8_logits(int8_graph, example_patches, product_in_int16_pairs)
    np.testing.assert_array_equal(in_pairs, exact)


@pytest.mark.heavy
def test_int8_answers_here_as_exact_products_do(
    engines: dict[str, Engine], int8_graph: onnx.ModelProto, example_patches: NDArray[np.uint8]
):
    exact = int8_logits(int8_graph, example_patches, exact_product)
    found = np.concatenate([engines["int8"].run([patches]).logits for patches in example_patches])
    canary = engines["int8"].spec.canary
    assert canary is not None
    assert np.abs(found - exact).max() < canary.atol / 2, "GELU and layer norm are rounded in another order"


@pytest.mark.heavy
def test_its_canary_sees_products_that_saturate(engines: dict[str, Engine], int8_graph: onnx.ModelProto):
    spec = engines["int8"].spec
    assert spec.canary is not None
    with Image.open(io.BytesIO(base64.b64decode(spec.canary.picture))) as image:
        patches = to_patches(to_pixels(image, 1), spec)[np.newaxis]
    wide = with_kernels_in_8_bits(int8_graph)
    exact, saturated = (int8_logits(wide, patches, product)[0] for product in (exact_product, product_in_int16_pairs))
    assert np.abs(exact - spec.canary.logits).max() < spec.canary.atol, "8 bits as such pass"
    assert np.abs(saturated - spec.canary.logits).max() > 1.5 * spec.canary.atol, "saturated ones do not"


@pytest.mark.heavy
@pytest.mark.process
@needs_qemu
def test_int8_is_bit_for_bit_the_same_on_an_emulated_processor_with_avx2_only(
    engines: dict[str, Engine], example_patches: NDArray[np.uint8], tmp_path: Path
):
    np.save(tmp_path / "patches.npy", example_patches)
    script = """
import sys; import numpy as np; from pathlib import Path
from app.engine.engine import EngineOptions, open_engine
from app.engine.int8_probe import probe
engine = open_engine(EngineOptions(Path(sys.argv[1]), provider="cpu", precision="int8", instances=1, max_batch_size=1))
patches = np.load(sys.argv[2])
np.save(sys.argv[3], np.concatenate([engine.run([one]).logits for one in patches]))
print(probe())
"""
    logits = tmp_path / "logits.npy"
    said = as_avx2_only(script, str(BUNDLE), str(tmp_path / "patches.npy"), str(logits))
    assert said == "exact for pairs\n"
    here = np.concatenate([engines["int8"].run([patches]).logits for patches in example_patches])
    np.testing.assert_allclose(np.load(logits), here, rtol=0, atol=1e-3 * float(np.ptp(here)))
