"""An ONNX Runtime session that has proved itself: provider, precision, shapes, warm-up. Knows nothing of pictures.

It fails loud: a provider that was asked for and does not really run the graph stops the start. `auto` may fall back,
and Engine.fallback then says why.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from app.cpus import has_int8_instructions, usable_cpus
from app.errors import EngineError
from app.runtime import ONNX_RUNTIME, PROVIDERS, Runtime, Session, one_line, open_session
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec, Precision

Patches = NDArray[np.uint8]
Logits = NDArray[np.float32]

INPUT, LOGITS = "patches", "logits"

log = logging.getLogger("mixer.engine")


@dataclass(frozen=True)
class EngineOptions:
    """What to open. `provider` and `precision` may be "auto"; lanes 0 is chosen by the provider."""

    bundle: Path
    provider: str = "auto"
    precision: str = "auto"
    lanes: int = 0
    intra_op_num_threads: int = 1
    max_batch_size: int = 32


class Engine:
    """One graph, ready to run. `run` may be called from `lanes` threads at once."""

    def __init__(
        self,
        session: Session,
        spec: ModelSpec,
        *,
        provider: str,
        precision: Precision,
        lanes: int,
        fallback: str | None,
    ) -> None:
        self.spec = spec
        self.provider = provider
        self.precision = precision
        self.lanes = lanes
        self.fallback = fallback
        self._session = session

    def run(self, patches: Sequence[Patches]) -> Logits:
        """Logits float32 [n, K] of n pictures, each uint8 [S, P*P*C]."""
        (logits,) = self._session.run([LOGITS], {INPUT: np.stack(patches)})
        return cast(Logits, logits)

    def warm_up(self, max_batch_size: int) -> None:
        """Run the smallest and the largest batch once, so that no client pays for first-time work.

        Raises: EngineError where the graph does not run, or does not answer as its spec says.
        """
        blank = np.zeros((self.spec.num_patches, self.spec.patch_bytes), dtype=np.uint8)
        for batch_size in {1, max_batch_size}:
            try:
                logits = self.run([blank] * batch_size)
            except Exception as error:
                raise EngineError(f"The graph does not run a batch of {batch_size}: {one_line(error)}") from error
            expected = (batch_size, self.spec.num_classes)
            if logits.shape != expected:
                raise EngineError(
                    f"The graph answers a batch of {batch_size} with {logits.shape}; expected {expected}."
                )


def open_engine(options: EngineOptions, runtime: Runtime = ONNX_RUNTIME) -> Engine:
    """Open the best graph of a bundle that the options allow, and warm it up.

    Raises: EngineError in one line: what is wrong and what was expected.
    """
    graphs = find_graphs(options.bundle)
    if options.provider == "cpu" or (options.provider == "auto" and PROVIDERS["cuda"] not in runtime.available()):
        return _open_on("cpu", options, graphs, runtime)
    try:
        return _open_on("cuda", options, graphs, runtime)
    except EngineError as error:
        if options.provider == "cuda":
            raise
        log.warning("falling back to the CPU: %s", error)
        return _open_on("cpu", options, graphs, runtime, fallback=str(error))


def find_graphs(bundle: Path) -> dict[Precision, Path]:
    """The graphs of a bundle folder by precision; a single .onnx file counts by the precision in its name, else fp32.

    Raises: EngineError where there is none.
    """
    if bundle.is_file():
        return {next((p for p in _precisions() if p in bundle.stem), "fp32"): bundle}
    graphs = {precision: bundle / f"{precision}.onnx" for precision in _precisions()}
    found = {precision: path for precision, path in graphs.items() if path.is_file()}
    if not found:
        raise EngineError(f"The bundle {bundle} has no fp32.onnx, fp16.onnx or int8.onnx.")
    return found


def _precisions() -> tuple[Precision, ...]:
    return get_args(Precision)


def _open_on(
    provider: str,
    options: EngineOptions,
    graphs: Mapping[Precision, Path],
    runtime: Runtime,
    fallback: str | None = None,
) -> Engine:
    precision = _choose_precision(options, graphs, provider)
    path = graphs[precision]
    session = open_session(path, provider, options.intra_op_num_threads, runtime)
    spec, stated_precision = _read_metadata(session, path)
    _expect_interface(session, spec, path)
    lanes = options.lanes or (usable_cpus() if provider == "cpu" else 1)
    engine = Engine(
        session, spec, provider=provider, precision=stated_precision or precision, lanes=lanes, fallback=fallback
    )
    engine.warm_up(options.max_batch_size)
    return engine


def _choose_precision(options: EngineOptions, graphs: Mapping[Precision, Path], provider: str) -> Precision:
    if options.precision != "auto":
        wanted = cast(Precision, options.precision)
        if wanted not in graphs:
            raise EngineError(f"precision is {wanted}; the bundle {options.bundle} has {', '.join(graphs)}.")
        return wanted
    order: tuple[Precision, ...] = ("fp32", "int8", "fp16")
    if provider == "cuda":
        order = ("fp16", "fp32", "int8")
    elif has_int8_instructions():
        order = ("int8", "fp32", "fp16")
    return next(precision for precision in order if precision in graphs)


def _read_metadata(session: Session, path: Path) -> tuple[ModelSpec, Precision | None]:
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise EngineError(f"{path} has no {METADATA_KEY} in its metadata; expected a graph written by mixer export.")
    try:
        spec = ModelSpec.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        raise EngineError(f"{path} has a {METADATA_KEY} that is not valid: {one_line(error)}") from error
    stated = metadata.get(PRECISION_KEY)
    return spec, cast(Precision, stated) if stated in _precisions() else None


def _expect_interface(session: Session, spec: ModelSpec, path: Path) -> None:
    """The graph takes uint8 [batch, S, P*P*C] and gives logits [batch, K], as its own spec says."""
    inputs = {entry.name: (entry.type, list(entry.shape[1:])) for entry in session.get_inputs()}
    outputs = {entry.name: list(entry.shape[1:]) for entry in session.get_outputs()}
    if inputs != {INPUT: ("tensor(uint8)", [spec.num_patches, spec.patch_bytes])}:
        raise EngineError(
            f"{path} takes {inputs}; its spec says uint8 {INPUT} of {spec.num_patches} x {spec.patch_bytes}."
        )
    if outputs.get(LOGITS) != [spec.num_classes]:
        raise EngineError(f"{path} gives {outputs}; its spec says {LOGITS} of {spec.num_classes}.")
