"""Which graph of a bundle runs, and why. Knows nothing of instances or batches.

On a CPU int8 comes first where the processor multiplies bytes at all: measured, 2.2 to 3.3 times as fast as fp32 with
VNNI, 1.3 times and more with AVX2 (docs/decisions/0014). It is taken only where its products are exact: a graph whose
kernels leave 16 bits is refused on a processor that adds products there, as its answers would be wrong without a word.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from app.engine.int8_probe import Products
from app.engine.metadata import Metadata, read_metadata
from app.engine.session import Session
from app.errors import EngineError
from app.system.cpu_limits import int8_instructions
from model.spec import ModelSpec, Precision


class Choice(NamedTuple):
    """An open graph, and in a few words why it and no other."""

    path: Path
    session: Session
    spec: ModelSpec
    precision: Precision
    reason: str


def open_best(
    graphs: Mapping[Precision, Path],
    asked: str,
    provider: str,
    open_graph: Callable[[Path], Session],
    int8_products: Callable[[], Products],
) -> Choice:
    """The graph that was `asked` for, a precision, or the best one for "auto".

    Raises: EngineError where it is not there, cannot be opened, or would be wrong on this processor.
    """
    passed_over: list[str] = []
    order = _order(graphs, asked, provider)
    for index, precision in enumerate(order):
        path = graphs[precision]
        session = open_graph(path)
        metadata = read_metadata(session, path)
        precision = metadata.precision or precision  # noqa: PLW2901 -- what a graph states counts more than its name
        wrong = _why_wrong(metadata, int8_products) if (precision, provider) == ("int8", "cpu") else None
        if wrong is None:
            reason = _reason(precision, asked, provider, len(order), passed_over)
            return Choice(path, session, metadata.spec, precision, reason)
        if index == len(order) - 1:
            raise EngineError(f"{path} {wrong}")
        passed_over.append(f"{path.name} {wrong}")  # clients read it, and need not know the folder
    raise EngineError("No graph is left to choose from. This is a bug.")


def first_choice(graphs: Mapping[Precision, Path], asked: str, provider: str) -> Path:
    """The graph that is tried first, and nearly always runs. Raises EngineError where that asked for is not there."""
    return graphs[_order(graphs, asked, provider)[0]]


def _order(graphs: Mapping[Precision, Path], asked: str, provider: str) -> list[Precision]:
    """The graphs to try, best first."""
    if asked != "auto":
        wanted = cast(Precision, asked)
        if wanted not in graphs:
            raise EngineError(f"precision is {asked}; {_folder(graphs)} has {', '.join(graphs)}.")
        return [wanted]
    best: tuple[Precision, ...] = ("fp32", "int8", "fp16")
    if provider != "cpu":
        best = ("fp16", "fp32", "int8")
    elif int8_instructions() is not None:
        best = ("int8", "fp32", "fp16")
    return [precision for precision in best if precision in graphs]


def _why_wrong(metadata: Metadata, int8_products: Callable[[], Products]) -> str | None:
    """Why an int8 graph would be wrong on this processor, and what to do; None where it is exact."""
    products = int8_products()
    if products == "exact" or (products == "exact for pairs" and metadata.pairs_fit):
        return None
    if products == "wrong":
        return (
            "would be wrong on this processor: ONNX Runtime's products of bytes are not exact here, "
            "whatever the kernels. Set MIXER_PRECISION=fp32, for a bundle with fp32.onnx."
        )
    return (
        "would be wrong on this processor: without VNNI it adds products of bytes in 16 bits, and the graph's "
        "kernels need more. Export it anew with mixer export, or set MIXER_PRECISION=fp32, for a bundle with fp32.onnx."
    )


def _reason(precision: Precision, asked: str, provider: str, count: int, passed_over: list[str]) -> str:
    if asked != "auto":
        return f"{asked} was asked for"
    if passed_over:
        return f"auto: {passed_over[-1]}"
    if count == 1:
        return "auto: the bundle has no other graph"
    if provider != "cpu":
        return f"auto: {precision} is the fastest of the bundle's graphs on a GPU"
    instructions = int8_instructions()
    if precision == "int8":
        return f"auto: int8 is the fastest of the bundle's graphs with {instructions}, and its products are exact"
    missing = "no instructions for bytes" if instructions is None else "no int8 graph to run"
    return f"auto: {precision} is the fastest of the bundle's graphs, with {missing}"


def _folder(graphs: Mapping[Precision, Path]) -> str:
    path = next(iter(graphs.values()))
    return f"the bundle {path.parent if path.stem in graphs else path}"
