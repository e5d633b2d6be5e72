"""Fuzzed: a request of another protocol -> what it asks: JSON, binary tensors behind it, forms, what was deflated.

An input is a line each with the path of a route, the content type, Inference-Header-Content-Length, the content
encoding and how the body is cut (as in multipart.py), and the body.
"""

import asyncio
import math
import random
import zlib
from typing import Any, NamedTuple, cast

import numpy as np
from starlette.requests import Request
from starlette.types import Message

from app.dialects import explanations
from app.dialects.dialect import Query, Route
from app.dialects.names import NAMES
from app.dialects.reading import Body
from app.dialects.serving import Serving
from app.dialects.table import chosen
from app.errors import ClientGone, ServiceError
from app.http.body import BodyLimits
from app.http.upload_budget import BodyReservation, UploadBudget
from app.settings import Settings
from app.system.quota import Quota
from tests.fuzzing.asked import CODINGS, deflated, inflated, mutated_json, seeds
from tests.fuzzing.decode import outcome_of
from tests.fuzzing.multipart import cut
from tests.fuzzing.mutations import spoiled
from tests.fuzzing.targets import ACCEPTED, Checked, Finding

_LINES = 5
_MOST_PLAIN_BYTES = 1 << 17  # of a body, before it is deflated
_ROOM = 1 << 30  # bytes: more than any input takes, so that none is refused for what others hold


class Sent(NamedTuple):
    """A request, taken apart."""

    path: bytes
    content_type: bytes
    length: bytes
    coding: bytes
    cuts: bytes
    body: bytes

    def joined(self) -> bytes:
        return b"\n".join(self)


def sent(payload: bytes) -> Sent:
    return Sent(*(payload.split(b"\n", _LINES) + [b""] * _LINES)[: _LINES + 1])


class Fuzzed:
    """Each input is read by one protocol; cut as it says, and in one piece: both must come to the same."""

    most_bytes = 1 << 16

    def __init__(self) -> None:
        options = Settings.model_construct()
        self._limits = BodyLimits(
            options.max_image_bytes, options.max_request_bytes, options.max_images_per_request, options.body_timeout_s
        )
        serving = Serving(*(cast(Any, None),) * 3, version="1", predict_route="/vertex")  # none is asked while reading
        self._routes = {
            route.path.encode(): route for dialect in chosen(NAMES, serving) for route in dialect.routes
        }  # fmt: skip
        self.kinds = tuple(path.decode() for path in self._routes)
        self._loop = asyncio.new_event_loop()

    def seeds(self) -> dict[str, bytes]:
        return seeds()

    def mutated(self, payload: bytes, partner: bytes, rng: random.Random) -> bytes:
        """Within what was deflated, and in the values of JSON, more often than anywhere."""
        for _ in range(rng.choice((1, 1, 2, 4))):
            request, other = sent(payload), sent(partner)
            plain = inflated(request.body, request.coding) if rng.random() < 0.7 else None
            coding = rng.choice((b"", b"", *CODINGS)) if plain is not None else request.coding
            body = request.body if plain is None else plain
            if rng.random() < 0.6:
                body, length = mutated_json(body, request.length, rng)
                request = request._replace(length=length)
            elif rng.random() < 0.8:
                body = spoiled(body, other.body, rng)
            else:
                payload = spoiled(payload, partner, rng)
                continue
            changed = request._replace(body=deflated(body[:_MOST_PLAIN_BYTES], coding), coding=coding).joined()
            payload = changed if len(changed) <= self.most_bytes else payload
        return payload[: self.most_bytes]

    def check(self, payload: bytes) -> Checked:
        request = sent(payload)
        path = request.path if request.path in self._routes else self.kinds[zlib.crc32(payload) % len(self.kinds)]
        route = self._routes[path if isinstance(path, bytes) else path.encode()]
        return Checked(route.path, self._loop.run_until_complete(self._outcome(route, request)))

    def close(self) -> None:
        self._loop.close()

    async def _outcome(self, route: Route, request: Sent) -> str:
        outcome, told = await self._read(route, request, tuple(cut(request.body, request.cuts)))
        again = await self._read(route, request, (request.body,))
        if (outcome, told) != again:
            raise Finding(f"In pieces: {outcome} {told!r:.200}; at once: {again[0]} {again[1]!r:.200}.")
        return outcome

    async def _read(self, route: Route, request: Sent, pieces: tuple[bytes, ...]) -> tuple[str, list[bytes]]:
        """The error's code, or the pictures that are asked about; nothing is held any more."""
        room = Quota(_ROOM)
        try:
            with BodyReservation(UploadBudget(room, lambda: None)) as reservation:
                query = await route.read(Body(_request(request, pieces), self._limits, reservation))
                outcome, told = ACCEPTED, _expected(query, room.taken)
        except ClientGone:
            outcome, told = "client_gone", []
        except ServiceError as error:
            outcome, told = outcome_of(error), []
        if room.taken:
            raise Finding(f"{room.taken} bytes are held after the request; expected none.")
        return outcome, told


def _expected(query: Query | explanations.Query, held: int) -> list[bytes]:
    """The bytes of the pictures, which are of their kinds and counted. Raises Finding."""
    if isinstance(query, explanations.Query):
        query = Query(query.pictures)
    if not query.timeout_s > 0 or math.isnan(query.timeout_s) or (query.top_k is not None and query.top_k < 1):
        raise Finding(f"It asks for {query.top_k} labels within {query.timeout_s} s; expected some of both.")
    contents = []
    for picture in query.pictures:
        if not isinstance(picture, bytes):
            pixels = np.asarray(picture)
            if pixels.dtype != np.uint8 or pixels.ndim != 3:  # the decoder refuses what has no pixels
                raise Finding(f"Pixels are {pixels.dtype} {pixels.shape}; expected uint8 [H, W, C].")
        contents.append(bytes(picture))
    if sum(map(len, contents)) > held:
        raise Finding(f"{sum(map(len, contents))} bytes of pictures, of {held} that are counted.")
    return contents


def _request(request: Sent, pieces: tuple[bytes, ...]) -> Request:
    named = {
        b"content-type": request.content_type,
        b"inference-header-content-length": request.length,
        b"content-encoding": request.coding,
    }
    messages = iter(
        [*({"type": "http.request", "body": piece, "more_body": True} for piece in pieces), {"type": "http.request"}]
    )

    async def receive() -> Message:
        return next(messages)

    headers = [(name, value) for name, value in named.items() if value]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Request(scope, receive)
