"""Which graph of a bundle runs, and the words that say why."""

from pathlib import Path

import pytest

from app.engine import precision as precision_module
from app.engine.int8_probe import Products
from app.engine.precision import Choice, open_best
from app.errors import EngineError
from model.spec import INT8_KERNELS_KEY, PAIRS_FIT_INT16, Precision
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession

SPEC = color_spec()
BUNDLE = Path("bundles/three")
WRONG = (
    "int8.onnx would be wrong on this processor: without VNNI it adds products of bytes in 16 bits, and "
    "the graph's kernels need more. Export it anew with mixer export, or set MIXER_PRECISION=fp32, for a bundle with "
    "fp32.onnx."
)


class Opener:
    """Opens sessions of graphs by name, whose int8 kernels have pairs that fit, or not; notes what was opened."""

    def __init__(self, *, pairs_fit: bool = True, products: Products = "exact") -> None:
        self.opened: list[str] = []
        self._products = products
        self._metadata = {INT8_KERNELS_KEY: PAIRS_FIT_INT16} if pairs_fit else {}

    def best(self, *precisions: Precision, asked: str = "auto", provider: str = "cpu") -> Choice:
        graphs = {precision: BUNDLE / f"{precision}.onnx" for precision in precisions}
        return open_best(graphs, asked, provider, self._open, lambda: self._products)

    def _open(self, path: Path) -> FakeSession:
        self.opened.append(path.stem)
        return FakeSession(SPEC, precision=path.stem, metadata=self._metadata)


@pytest.fixture(autouse=True)
def instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "avx2")


def processor(monkeypatch: pytest.MonkeyPatch, instructions: str | None) -> None:
    monkeypatch.setattr(precision_module, "int8_instructions", lambda: instructions)


@pytest.mark.parametrize(
    ("provider", "instructions", "order"),
    [
        ("cuda", "avx512_vnni", "fp16 fp32 int8"),
        ("tensorrt", None, "fp16 fp32 int8"),
        ("cpu", "avx512_vnni", "int8 fp32 fp16"),
        ("cpu", "avx2", "int8 fp32 fp16"),
        ("cpu", None, "fp32 int8 fp16"),
    ],
)
def test_auto_takes_what_suits_the_processor_of_what_is_there(
    provider: str, instructions: str | None, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, instructions)
    left: list[Precision] = ["fp32", "fp16", "int8"]
    for expected in order.split():
        assert Opener().best(*left, provider=provider).precision == expected
        left = [precision for precision in left if precision != expected]


@pytest.mark.parametrize(
    ("products", "pairs_fit", "chosen"),
    [
        ("exact", True, "int8"),
        ("exact", False, "int8"),
        ("exact for pairs", True, "int8"),
        ("exact for pairs", False, "fp32"),
        ("wrong", True, "fp32"),
        ("wrong", False, "fp32"),
    ],
)
def test_auto_takes_int8_where_its_products_are_exact_and_else_the_next_best(
    products: Products, pairs_fit: bool, chosen: str
) -> None:
    opener = Opener(pairs_fit=pairs_fit, products=products)
    assert opener.best("fp32", "fp16", "int8").precision == chosen
    assert opener.opened == (["int8"] if chosen == "int8" else ["int8", "fp32"])


def test_int8_that_would_be_wrong_is_refused_where_it_was_asked_for() -> None:
    opener = Opener(pairs_fit=False, products="exact for pairs")
    with pytest.raises(EngineError) as refused:
        opener.best("fp32", "int8", asked="int8")
    assert str(refused.value) == f"bundles/three/{WRONG}"
    assert opener.opened == ["int8"]


def test_a_bundle_of_int8_alone_that_would_be_wrong_is_refused() -> None:
    with pytest.raises(EngineError) as refused:
        Opener(pairs_fit=False, products="exact for pairs").best("int8")
    assert str(refused.value) == f"bundles/three/{WRONG}"


def test_kernels_that_pair_other_rows_refuse_every_int8_graph() -> None:
    with pytest.raises(EngineError, match="not exact here, whatever the kernels"):
        Opener(products="wrong").best("int8")


def test_a_gpu_multiplies_no_bytes_on_the_processor() -> None:
    assert Opener(pairs_fit=False, products="wrong").best("int8", provider="cuda").precision == "int8"


@pytest.mark.parametrize(
    ("graphs", "asked", "provider", "instructions", "reason"),
    [
        (("fp32", "int8"), "fp32", "cpu", "avx2", "fp32 was asked for"),
        (("fp32",), "auto", "cpu", "avx2", "auto: the bundle has no other graph"),
        (
            ("fp32", "int8"), "auto", "cpu", "avx2",
            "auto: int8 is the fastest of the bundle's graphs with avx2, and its products are exact",
        ),
        (
            ("fp32", "int8"), "auto", "cpu", None,
            "auto: fp32 is the fastest of the bundle's graphs, with no instructions for bytes",
        ),
        (
            ("fp32", "fp16"), "auto", "cpu", "avx2",
            "auto: fp32 is the fastest of the bundle's graphs, with no int8 graph to run",
        ),
        (("fp32", "fp16"), "auto", "cuda", "avx2", "auto: fp16 is the fastest of the bundle's graphs on a GPU"),
    ],
)  # fmt: skip
def test_the_choice_has_its_reason(
    graphs: tuple[Precision, ...],
    asked: str,
    provider: str,
    instructions: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor(monkeypatch, instructions)
    assert Opener().best(*graphs, asked=asked, provider=provider).reason == reason


def test_what_was_passed_over_is_the_reason() -> None:
    choice = Opener(pairs_fit=False, products="exact for pairs").best("fp32", "int8")
    assert choice.reason == f"auto: {WRONG}"


def test_a_precision_that_is_not_there_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^precision is fp16; the bundle bundles/three has fp32, int8\.$"):
        Opener().best("fp32", "int8", asked="fp16")
