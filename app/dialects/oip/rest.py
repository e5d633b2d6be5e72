"""An inference request of the Open Inference Protocol over REST: JSON, binary tensors behind it, or a picture alone.

`Inference-Header-Content-Length` says how many bytes of the body are JSON; 0: none, the body is the picture.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from pydantic_core import to_json
from starlette.responses import Response

from app.dialects.dialect import Answered, Query
from app.dialects.oip.infer import Asked, Output, Wish, expect_output, labels_of, outputs_of, query_of
from app.dialects.oip.tensors import BYTES, Tensor, expect_few, flat, num_elements
from app.dialects.reading import Body, json_object, kind_of
from app.errors import BadParameter, BadRequest

JSON, OCTETS = "application/json", "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"
_HEADER_LENGTH = HEADER_LENGTH.lower()
_BINARY_SIZE, _BINARY, _BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
_BARE = Asked("", (Wish(binary=True),))
_COMPRESSED = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_SHOWN = 64  # characters
_MOST_ID = 4096  # characters: the answer repeats them
_MOST_TENSORS = 16  # of a request, in or out: each takes microseconds to be read


async def read(body: Body) -> Query:
    """What a request asks. Raises ServiceError."""
    told = body.request.headers.get(_HEADER_LENGTH)
    if told == "0":
        return Query([await body.content(may_be_compressed=True)], top_k=1, options=_BARE)
    content = await body.content(may_be_compressed=True, several=True)
    length = len(content) if told is None else _header_length(told, len(content))
    if told is None and content[:1] not in (b"{", b"[", b" ", b"\n", b"\r", b"\t"):
        raise BadRequest(f"The body is no JSON; expected some, or {HEADER_LENGTH}: 0 for a picture alone.")
    return _query(body, json_object(content[:length]), memoryview(content)[length:])


def answer(answered: Answered) -> Response:
    """The outputs that were asked for."""
    query, model = answered.query, answered.model
    outputs = outputs_of(query.options, model.classifier, answered.answers)
    named = model.classifier.named
    head: dict[str, Any] = {"model_name": model.name, "model_version": named["version"]}
    head["parameters"] = {"model": named["name"], "precision": named["precision"]}  # model_name is the one asked for
    if query.options.id:
        head["id"] = query.options.id
    raw = [output.raw() for output in outputs if output.wish.binary]
    sizes = iter(map(len, raw))
    head["outputs"] = [_told(output, next(sizes) if output.wish.binary else None) for output in outputs]
    content, headers, media_type = to_json(head), {}, JSON
    if raw:
        headers[HEADER_LENGTH], media_type = str(len(content)), OCTETS
        content = b"".join((content, *raw))
    return _compressed(answered.request, content, headers, media_type)


def _told(output: Output, size: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {"name": output.wish.name, "datatype": output.datatype, "shape": output.shape}
    return told | ({"data": output.data()} if size is None else {"parameters": {_BINARY_SIZE: size}})


def _compressed(request: Request, content: bytes, headers: dict[str, str], media_type: str) -> Response:
    """Compressed where exactly one known coding is asked for: some clients name several and know none of them."""
    wanted = request.headers.get("accept-encoding", "").strip().lower()
    if wanted in _COMPRESSED:
        deflate = zlib.compressobj(wbits=_COMPRESSED[wanted])
        content = deflate.compress(content) + deflate.flush()
        headers |= {"Content-Encoding": wanted, "Vary": "Accept-Encoding"}
    return Response(content, headers=headers, media_type=media_type)


def _header_length(told: str, most: int) -> int:
    length = int(told) if told.isascii() and told.isdecimal() and len(told) < 20 else -1
    if not 0 <= length <= most:
        raise BadRequest(f"{HEADER_LENGTH} is {told[:_SHOWN]!r}; expected 0 to {most}, the bytes of the body.")
    return length


def _query(body: Body, asked: Mapping[str, Any], tail: memoryview) -> Query:
    parameters = _object(asked.get("parameters"), "parameters")
    request_id = asked.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadParameter(f"id is {kind_of(request_id)}; expected text.")
    if request_id and len(request_id) > _MOST_ID:
        raise BadParameter(f"id has {len(request_id)} characters; expected at most {_MOST_ID}.")
    binary = parameters.get(_BINARY_OUTPUT) is True
    inputs = _inputs(body, _tensors(asked.get("inputs"), "inputs"), tail)
    wishes = [_wish(one, at, binary) for at, one in enumerate(_tensors(asked.get("outputs") or [], "outputs"))]
    return query_of(inputs, wishes or [Wish(binary=binary)], parameters, request_id or "")


def _wish(entry: object, at: int, binary: bool) -> Wish:
    asked = _object(entry, f"outputs[{at}]")
    parameters = _object(asked.get("parameters"), f"outputs[{at}].parameters")
    name = expect_output(_text(asked.get("name"), f"outputs[{at}].name"))
    said = parameters.get(_BINARY, binary)
    return Wish(name, labels_of(parameters), said is True)


def _inputs(body: Body, entries: Sequence[object], tail: memoryview) -> list[Tensor]:
    """The tensors, whose binary parts follow each other behind the JSON."""
    tensors, at = [], 0
    for number, entry in enumerate(entries):
        where = f"inputs[{number}]"
        asked = _object(entry, where)
        size = _object(asked.get("parameters"), f"{where}.parameters").get(_BINARY_SIZE)
        if size is None and "data" not in asked and len(entries) == 1 and len(tail):
            size = len(tail)  # of a single input it need not be said
        name, datatype = _text(asked.get("name"), f"{where}.name"), _text(asked.get("datatype"), f"{where}.datatype")
        shape = _list(asked.get("shape"), f"{where}.shape")
        tensor = Tensor(name, datatype, [_dimension(one, where) for one in shape], b"")
        if size is None:
            tensors.append(
                tensor._replace(content=_data(body, tensor, _list(asked.get("data"), f"{where}.data"), where))
            )
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tail) - at:
            raise BadParameter(
                f"{where}.parameters.{_BINARY_SIZE} is {str(size)[:_SHOWN]}; "
                f"{len(tail) - at} bytes of the body are left behind the JSON."
            )
        body.reservation.add(size)  # it is copied
        tensors.append(tensor._replace(content=tail[at : at + size]))
        at += size
    if at != len(tail):
        raise BadParameter(f"The body has {len(tail) - at} bytes behind its last tensor; expected none.")
    return tensors


def _data(body: Body, tensor: Tensor, data: Sequence[Any], where: str) -> list[Any]:
    """Of BYTES the files, which JSON has in base64; of others the numbers."""
    if tensor.datatype != BYTES:
        return list(flat(data))
    elements = list(flat(data))
    if len(elements) != num_elements(tensor):  # before anything is decoded
        raise BadParameter(f"{where} has {len(elements)} elements; its shape {list(tensor.shape)} says another number.")
    expect_few(tensor, len(elements))
    return [body.picture(one, f"{where}.data[{at}]") for at, one in enumerate(elements)]


def _dimension(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadParameter(f"{where}.shape has {kind_of(value)} in it; expected whole numbers.")
    return value


def _object(value: object, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(f"{where} is {kind_of(value)}; expected an object.")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadParameter(f"{where} is {kind_of(value)}; expected a list.")
    return value


def _tensors(value: object, where: str) -> list[Any]:
    entries = _list(value, where)
    if len(entries) > _MOST_TENSORS:
        raise BadParameter(f"{where} has {len(entries)} entries; expected at most {_MOST_TENSORS}.")
    return entries


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise BadParameter(f"{where} is {kind_of(value)}; expected text.")
    return value
