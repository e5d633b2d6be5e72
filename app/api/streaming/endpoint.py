"""POST /classify/stream: a tar or a form of any length in, a line of JSON for each picture as it is done.

Pictures of a stream wait behind those of all other requests, and no more of them are inside at once than keep the
engine busy: what a client sends beyond is not read. What it does not read of its answer stops the stream, too.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.api import descriptions
from app.api.classification import Classification
from app.api.endpoint import add
from app.api.streaming.images import Images, Room, StreamedImage, images_of
from app.errors import BadRequest, NotReady, QueueFull, ServiceError, forget_frames
from app.http import problems
from app.http.dispatcher import Application, AsgiEndpoint
from app.http.request_log import timing_of
from app.http.upload_budget import BodyReservation
from app.inference.answer import Asked, wanted_of
from app.inference.classifier import Classifier, Item
from app.inference.permits import BackgroundPermits
from app.inference.scores import Scores

PATH = "/classify/stream"
_NDJSON = "application/x-ndjson"
_MOST_STREAMS = 16  # in a process
_MOST_UNREAD_BYTES = 1 << 20  # of lines that wait to be written
_RETRY_AFTER_S = 5
_RETRY_S = 1.0  # where there is no room for a picture, and none of the stream's own is inside
_BYTES_RETRY_S = 0.5


@dataclass(frozen=True)
class Stream:
    """The endpoint for streams."""

    classification: Classification
    under_way: set["_Run"] = field(default_factory=set)

    def add_to(self, app: Application) -> None:
        """Add the endpoint, and dispatch its requests to it."""
        classification = self.classification
        endpoint = AsgiEndpoint(PATH, self.stream, descriptions.CLASSIFY_PARAMETERS, classification.in_flight)
        router = APIRouter()
        add(
            router, PATH, endpoint.described, descriptions.STREAM,
            method="POST", description=self.stream.__doc__, needs_key=classification.keys.locked,
        )  # fmt: skip
        app.dispatch("POST", PATH, classification.access(endpoint))
        app.include_router(router)

    async def stream(self, request: Request, model: str | None = None, **asked: Unpack[Asked]) -> Response:
        """Any number of pictures, as the files of a tar or as fields `file` of a form. Lines come as they are done."""
        classification = self.classification
        classification.expect_key(request)
        classification.release(request)
        wanted_of(classification.asked(request, model).classifier.spec, asked)
        if request.scope["http_version"] == "1.0":
            raise BadRequest("The request is of HTTP/1.0, which has no chunks to answer in; expected HTTP/1.1.")
        if len(self.under_way) >= _MOST_STREAMS:
            raise QueueFull(
                f"{len(self.under_way)} streams are under way in this process, the most expected. "
                f"Try again in {_RETRY_AFTER_S} s.",
                _RETRY_AFTER_S,
            )
        run = _Run(classification, request, model, asked)
        images = images_of(request, classification.body_limits, run.room)
        return _Lines(self, run, images)


class _Lines(Response):
    """The answer: lines, as long as there are any."""

    media_type = _NDJSON

    def __init__(self, stream: Stream, run: "_Run", images: Images) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._stream, self._run, self._images = stream, run, images

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises ClientGone."""
        under_way = self._stream.under_way
        under_way.add(self._run)
        try:
            with self._stream.classification.in_flight.entered(scope):
                start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                refused = await self._run.answer(self._images, start, send)
            if refused is not None:
                await problems.of(refused)(scope, receive, send)
        finally:
            under_way.discard(self._run)


class _Run:
    """One stream on its way: a reader that begins with pictures, a task for each of them, and a writer of lines."""

    def __init__(self, classification: Classification, request: Request, model: str | None, asked: Asked) -> None:
        self._classification, self._request = classification, request
        self._model, self._asked = model, asked
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: list[bytes] = []  # not written yet
        self._lines_bytes = 0
        self._is_complete = False  # there will be no other line
        self._has_lines, self._has_room = asyncio.Event(), asyncio.Event()
        self._count = 0
        self._errors: Counter[str] = Counter()
        self.room = Room(classification.reserve, self._wait_for_bytes)

    async def answer(self, images: Images, start: Message, send: Send) -> ServiceError | None:
        """Write `start`, a line for each picture, and one for the end. Raises ClientGone.

        Returns why the body is refused, where nothing of it could be read: nothing is written then.
        """
        writer = asyncio.create_task(self._write(start, send))
        reader = asyncio.create_task(self._read(images))
        drain = asyncio.create_task(self._classification.in_flight.drain_begun.wait())
        try:
            await asyncio.wait((reader, drain), return_when=asyncio.FIRST_COMPLETED)
            error = (
                reader.result()
                if reader.done()
                else NotReady("The service is draining; expected the rest of this stream at another instance.")
            )
            await _cancel((reader, drain))
            if error is not None and not self._count:
                return error
            while self._tasks:
                await self._until_room()
            self._add({"end": self._end(error)})
            self._is_complete = True
            self._has_lines.set()
            await writer
            return None
        finally:
            timing_of(self._request.scope).errors = dict(self._errors)
            await _cancel((reader, drain, writer, *self._tasks))
            await images.aclose()

    # --- in ---

    async def _read(self, images: Images) -> ServiceError | None:
        """Begin with every picture as it comes. Returns what ended that early, if anything did."""
        try:
            async for image in images:
                try:
                    classifier, permit = await self._admitted()
                except BaseException:
                    image.reservation.release()
                    raise
                task = asyncio.create_task(self._one(self._count, image, classifier, permit))
                self._count += 1
                self._tasks.add(task)
                task.add_done_callback(partial(self._ended, image, permit))
        except ServiceError as error:
            forget_frames(error)
            return error
        return None

    async def _admitted(self) -> tuple[Classifier, BackgroundPermits[Item, Scores]]:
        """A permit for one more, once there is room for it. Raises: NotReady, UnknownModel."""
        while True:
            classifier = self._classification.asked(self._request, self._model).classifier  # maybe another one by now
            if len(self._tasks) < classifier.background_window and self._lines_bytes < _MOST_UNREAD_BYTES:
                try:
                    return classifier, classifier.admit_in_background(self._deadline())
                except QueueFull as error:
                    if not self._tasks:
                        await asyncio.sleep(min(error.retry_after_s, _RETRY_S))
                        continue
            await self._until_room()

    async def _wait_for_bytes(self, reservation: BodyReservation, count: int) -> None:
        """Until there is room for so many bytes of a picture. Raises UploadsFull."""
        patience = self._deadline()
        while not reservation.try_add(count):
            if self._tasks:
                await self._until_room()
            elif asyncio.get_running_loop().time() < patience:
                await asyncio.sleep(_BYTES_RETRY_S)
            else:
                reservation.add(count)
                return

    async def _until_room(self) -> None:
        """Until a picture is done, or lines are written."""
        self._has_room.clear()
        await self._has_room.wait()

    def _deadline(self) -> float:
        return self._classification.deadline()

    # --- one picture ---

    async def _one(
        self,
        position: int,
        image: StreamedImage,
        classifier: Classifier,
        permit: BackgroundPermits[Item, Scores],
    ) -> None:
        line: dict[str, Any] = {"position": position, "name": image.name}
        try:
            line |= await self._classified(position, image, classifier, permit)
        except ServiceError as error:
            forget_frames(error)
            self._errors[error.code] += 1
            line["error"] = {"code": error.code, "detail": error.detail}
        self._add(line)

    async def _classified(
        self,
        position: int,
        image: StreamedImage,
        classifier: Classifier,
        permit: BackgroundPermits[Item, Scores],
    ) -> dict[str, Any]:
        try:
            payload = image.expect_payload(self._classification.body_limits.max_image_bytes)
        except ServiceError as error:
            self._classification.metrics.lost(error.code)
            raise
        wanted = wanted_of(classifier.spec, self._asked)
        classified = await classifier.classify(
            permit, payload, wanted=wanted, deadline=self._deadline(), patient=True, client=self
        )
        if (collection := self._classification.collection) is not None:
            collection.offer(timing_of(self._request.scope).request_id, classifier, payload, classified, position)
        return {"model": classifier.named, "predictions": classified.predictions, **classified.certainty}

    def _ended(self, image: StreamedImage, permit: BackgroundPermits[Item, Scores], task: asyncio.Task[None]) -> None:
        permit.__exit__()
        image.reservation.release()
        self._tasks.discard(task)
        self._has_room.set()

    # --- out ---

    def _add(self, line: Mapping[str, Any]) -> None:
        self._lines.append(to_json(line) + b"\n")
        self._lines_bytes += len(self._lines[-1])
        self._has_lines.set()

    def _end(self, error: ServiceError | None) -> dict[str, Any]:
        end: dict[str, Any] = {"images": self._count, "failed": self._errors.total()}
        return end if error is None else {**end, "error": {"code": error.code, "detail": error.detail}}

    async def _write(self, start: Message, send: Send) -> None:
        """What is there, together, as often as the client has taken what went before."""
        await self._has_lines.wait()
        await send(start)
        while not self._is_complete or self._lines:
            await self._has_lines.wait()
            self._has_lines.clear()
            lines, self._lines, self._lines_bytes = self._lines, [], 0
            await send({"type": "http.response.body", "body": b"".join(lines), "more_body": True})
            self._has_room.set()
        await send({"type": "http.response.body", "body": b""})


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """End them, whatever they are at."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
