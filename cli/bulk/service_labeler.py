"""Answers by a running service, through the project's own client: N pictures under way, at the client's pace."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np

from app.errors import BadSettings, StartError, TooManyBytes
from app.inference.answer import Prediction
from cli.bulk.entries import Entry, LocalFile, Ready, RemoteFile, read_local, ready
from cli.bulk.labeler import Task
from cli.bulk.outcomes import UNREADABLE, Embedded, Failure, Labelled, Outcome, SetOfLabels, failure_of
from cli.bulk.stores import Stores
from mixer_client import (
    AsyncClient,
    BadInput,
    Classification,
    MixerError,
    ModelInfo,
    ModelName,
    Retries,
    ServiceError,
    Unauthorized,
)

_TIMEOUT_S = 120.0  # for one picture with all waiting: more than a restart of the service takes
_OF_ALL = (401, 403, 404, 405, 422, 429, 503)  # what is wrong with the command or the service, not with one picture
_BETWEEN, _FIRST_OF_SERVERS = "http_error", 500  # a proxy that answers so has no service behind it


class ServiceFailed(StartError):
    """The service does not answer, or refuses what this command asks of all pictures."""


class ServiceLabeler:
    """A Labeler over a service. `info`: the model that is asked. `most`: bytes that a picture may have."""

    def __init__(self, client: AsyncClient, task: Task, info: ModelInfo, *, concurrency: int, most: int) -> None:
        self.model = {"name": info.model, "version": info.version, "precision": info.precision}
        self._client, self._task, self._name = client, task, info.name
        self._concurrency, self._most = concurrency, most
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
        try:
            return await self._asked(payload)
        except ServiceError as error:
            return _failure(error)
        except MixerError as error:
            raise ServiceFailed(str(error)) from error

    async def _asked(self, payload: bytes) -> Outcome:
        if self._task.embeds:
            embedding = await self._client.embedding(payload, model=self._name)
            if embedding.model is not None:
                self._expect_same(embedding.model)
            return Embedded(np.array(embedding.values, dtype=np.float32))
        asked = self._task.asked
        found = await self._client.classify(
            payload,
            model=self._name,
            top_k=asked.get("top_k"),
            threshold=asked.get("threshold"),
            coverage=asked.get("set"),
        )
        self._expect_same(found.model)
        return _labelled(found)

    def _expect_same(self, model: ModelName) -> None:
        """Raises ServiceFailed where another model answers than at the beginning: a reload, or another replica."""
        answering = {"name": model.name, "version": model.version, "precision": model.precision}
        if answering != self.model:
            now, before = (" ".join(one.values()) for one in (answering, self.model))
            raise ServiceFailed(f"The service answers with {now} now; expected {before}, with which this began.")

    def _payload(self, entry: Ready) -> bytes | Failure:
        content = entry.content
        if isinstance(content, LocalFile):
            try:
                return read_local(content.path, self._most)
            except TooManyBytes as error:
                return failure_of(error)
            except OSError as error:
                return Failure(UNREADABLE, f"It cannot be read: {error.strerror}.")
        if isinstance(content, RemoteFile):
            return self._stores.read({content.url: content.size})[content.url]
        return content


@asynccontextmanager
async def service(url: str, key: str, task: Task, *, concurrency: int, most: int) -> AsyncIterator[ServiceLabeler]:
    """A labeler over the default model of the service at `url`. Raises ServiceFailed, BadSettings."""
    try:
        info = await _default_model(url, key)
    except BadInput as error:
        raise BadSettings(f"--url or --key cannot be used: {error}") from error
    async with AsyncClient(url, key=key or None, timeout_s=_TIMEOUT_S) as client:
        yield ServiceLabeler(client, task, info, concurrency=concurrency, most=most)


async def _default_model(url: str, key: str) -> ModelInfo:
    """Asked once: a service that is not there is told of at once. Raises ServiceFailed, BadInput."""
    async with AsyncClient(url, key=key or None, retries=Retries(max_attempts=1)) as once:
        try:
            served = await once.models()
        except MixerError as error:
            hint = " The key is --key or MIXER_API_KEY." if isinstance(error, Unauthorized) else ""
            raise ServiceFailed(f"{url} cannot be asked for its models: {error}{hint}") from error
    info = next((one for one in served.models if one.name == served.default), None)
    if info is None:
        raise ServiceFailed(f"{url} has no model {served.default!r}, its default; expected one of its models.")
    return info


def _labelled(found: Classification) -> Labelled:
    label_set = None if found.set is None else SetOfLabels(found.set.coverage, found.set.labels)
    predictions = [
        Prediction(label=one.label, index=one.index, probability=one.probability) for one in found.predictions
    ]
    return Labelled(predictions, found.uncertain, found.energy, label_set)


def _failure(error: ServiceError) -> Failure:
    """What is wrong with one picture. Raises ServiceFailed for what is wrong with all of them."""
    is_of_all = error.status in _OF_ALL or (error.code == _BETWEEN and error.status >= _FIRST_OF_SERVERS)
    if is_of_all:
        raise ServiceFailed(f"The service answers {error}") from error
    return Failure(error.code, error.detail)
