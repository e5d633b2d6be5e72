"""Answers by a running service, over HTTP: N pictures in flight, and a busy service is asked again when it says so."""

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import StartError
from cli.bulk.entries import Entry, LocalFile, Ready, RemoteFile, read_local, ready
from cli.bulk.labeler import Task
from cli.bulk.outcomes import UNREADABLE, Embedded, Failure, Labelled, Outcome, SetOfLabels
from cli.bulk.stores import Stores, require

if TYPE_CHECKING:
    import httpx

_BUSY, _UNAVAILABLE = 429, 503
_OURS = (401, 403, 404, 405, 422)  # what is wrong with the command, not with one picture
_TRIES, _PAUSE_S, _LONGEST_PAUSE_S = 8, 0.5, 60.0
_TIMEOUT_S = 60.0


class ServiceFailed(StartError):
    """The service does not answer, or refuses what this command asks of all pictures."""


class ServiceLabeler:
    """A Labeler over a service. `most`: bytes that a picture may have."""

    def __init__(
        self, client: "httpx.AsyncClient", task: Task, model: Mapping[str, str], *, concurrency: int, most: int
    ) -> None:
        self.model = model
        self._client, self._task, self._concurrency, self._most = client, task, concurrency, most
        self._stores = Stores(most)

    async def outcomes(self, entries: Iterator[Entry]) -> AsyncGenerator[tuple[str, Outcome]]:
        """The name and the outcome of each entry, in order; `concurrency` pictures are under way."""
        pending: deque[tuple[str, asyncio.Task[Outcome]]] = deque()
        coming = map(ready, entries)
        try:
            while (entry := await asyncio.to_thread(next, coming, None)) is not None:
                pending.append((entry.name, asyncio.create_task(self._outcome(entry))))
                while pending and (len(pending) >= self._concurrency or pending[0][1].done()):
                    name, task = pending.popleft()
                    yield name, await task
            while pending:
                name, task = pending.popleft()
                yield name, await task
        finally:
            for _, task in pending:
                task.cancel()

    async def _outcome(self, entry: Ready) -> Outcome:
        payload = await asyncio.to_thread(self._payload, entry)
        if isinstance(payload, Failure):
            return payload
        for tries in range(_TRIES):
            found = await self._asked(payload, last=tries == _TRIES - 1)
            if not isinstance(found, float):
                return found
            await asyncio.sleep(min(found or _PAUSE_S * 2**tries, _LONGEST_PAUSE_S))
        raise AssertionError("the last try answers or raises")

    async def _asked(self, payload: bytes, *, last: bool) -> Outcome | float:
        """The outcome; or for how many seconds to wait before it is asked again, 0 where nobody says."""
        import httpx  # noqa: PLC0415

        try:
            answer = await self._client.send(self._request(payload))
        except httpx.TransportError as error:
            if last:
                raise ServiceFailed(f"{self._client.base_url} does not answer: {error!r}.") from error
            return 0.0
        if answer.status_code in (_BUSY, _UNAVAILABLE) and not last:
            return _seconds(answer.headers.get("Retry-After"))
        if answer.status_code in (*_OURS, _BUSY, _UNAVAILABLE):
            raise ServiceFailed(f"{self._client.base_url} answers {answer.status_code}: {_detail(answer.text)}")
        if answer.status_code != httpx.codes.OK:
            return _failure(answer.status_code, answer.text)
        return self._told(answer.json())

    def _request(self, payload: bytes) -> "httpx.Request":
        if self._task.embeds:
            picture = base64.b64encode(payload).decode()
            image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [picture]}
            path = f"/v2/models/{self.model['name']}/infer"
            return self._client.build_request(
                "POST", path, json={"inputs": [image], "outputs": [{"name": "embedding"}]}
            )
        asked = {name: str(value) for name, value in self._task.asked.items() if value is not None}
        headers = {"Content-Type": "application/octet-stream"}
        return self._client.build_request("POST", "/classify", params=asked, content=payload, headers=headers)

    def _told(self, body: Any) -> Outcome:
        if self._task.embeds:
            return Embedded(np.array(body["outputs"][0]["data"], dtype=np.float32))
        chosen = body.get("set")
        label_set = None if chosen is None else SetOfLabels(chosen["coverage"], tuple(chosen["labels"]))
        return Labelled(body["predictions"], body.get("uncertain"), body.get("energy"), label_set)

    def _payload(self, entry: Ready) -> bytes | Failure:
        content = entry.content
        if isinstance(content, LocalFile):
            try:
                return read_local(content.path, self._most)
            except OSError as error:
                return Failure(UNREADABLE, f"It cannot be read: {error.strerror}.")
        if isinstance(content, RemoteFile):
            return self._stores.read({content.url: content.size})[content.url]
        return content


@asynccontextmanager
async def service(url: str, key: str, task: Task, *, concurrency: int, most: int) -> AsyncIterator[ServiceLabeler]:
    """A labeler over the service at `url`. Raises ServiceFailed where it does not answer, MixerError without httpx."""
    require("httpx", f"Asking {url}")
    import httpx  # noqa: PLC0415

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT_S, limits=limits) as client:
        try:
            answer = await client.get("/model")
            answer.raise_for_status()
            body = answer.json()
            spec = body["spec"]
            named = {"name": str(spec["name"]), "version": str(spec["version"]), "precision": str(body["precision"])}
        except httpx.HTTPStatusError as error:
            raise ServiceFailed(
                f"{url} answers {error.response.status_code}: {_detail(error.response.text)}"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            raise ServiceFailed(f"{url} does not answer as this service does: {error!r}.") from error
        if task.embeds and body.get("embedding_dim") is None:
            raise ServiceFailed(f"{url} serves {named['name']}, which gives no embedding; expected a model that does.")
        yield ServiceLabeler(client, task, named, concurrency=concurrency, most=most)


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0


def _failure(status: int, text: str) -> Failure:
    try:
        body = json.loads(text)
        return Failure(str(body["code"]), str(body["detail"]))
    except (ValueError, KeyError, TypeError):
        return Failure(f"http_{status}", _detail(text))


def _detail(text: str) -> str:
    try:
        body = json.loads(text)
        return str(body.get("detail") or body.get("error"))
    except (ValueError, AttributeError):
        return " ".join(text.split())[:200]
