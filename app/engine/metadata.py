"""What a graph says of itself: its spec and precision, what it takes and gives. Knows nothing of providers."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from pydantic import ValidationError

from app.engine.runners import EMBEDDING, INPUT, LOGITS
from app.engine.session import Session, one_line
from app.errors import EngineError
from model.spec import INT8_KERNELS_KEY, METADATA_KEY, PAIRS_FIT_INT16, PRECISION_KEY, ModelSpec, Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Metadata:
    """`precision`: None where the graph states none that is known. `pairs_fit`: of int8 kernels, PAIRS_FIT_INT16."""

    spec: ModelSpec
    precision: Precision | None
    pairs_fit: bool


def read_metadata(session: Session, path: Path) -> Metadata:
    """What an open graph says of itself.

    Raises: EngineError where the spec is missing or not valid.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in metadata:
        raise EngineError(f"{path} has no {METADATA_KEY} in its metadata; expected a graph written by mixer export.")
    try:
        spec = ModelSpec.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        raise EngineError(f"{path} has a {METADATA_KEY} that is not valid: {one_line(error)}") from error
    stated = metadata.get(PRECISION_KEY)
    precision = cast(Precision, stated) if stated in PRECISIONS else None
    return Metadata(spec, precision, metadata.get(INT8_KERNELS_KEY) == PAIRS_FIT_INT16)


def expect_interface(session: Session, spec: ModelSpec, path: Path) -> None:
    """The graph takes uint8 [batch, S, P*P*C] and gives logits [batch, K], as its own spec says.

    Raises: EngineError where it does not.
    """
    inputs = {entry.name: (entry.type, list(entry.shape[1:])) for entry in session.get_inputs()}
    outputs = {entry.name: list(entry.shape[1:]) for entry in session.get_outputs()}
    if inputs != {INPUT: ("tensor(uint8)", [spec.num_patches, spec.patch_bytes])}:
        raise EngineError(
            f"{path} takes {inputs}; its spec says uint8 {INPUT} of {spec.num_patches} x {spec.patch_bytes}."
        )
    if outputs.get(LOGITS) != [spec.num_classes]:
        raise EngineError(f"{path} gives {outputs}; its spec says {LOGITS} of {spec.num_classes}.")


def embedding_dim(session: Session) -> int | None:
    """C of the output `embedding`, float32 [batch, C]; None where the graph has no such output."""
    outputs = {entry.name: (entry.type, list(entry.shape)) for entry in session.get_outputs()}
    match outputs.get(EMBEDDING):
        case ("tensor(float)", [_, int(dim)]):
            return dim
        case _:
            return None
