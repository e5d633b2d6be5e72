"""OpenAI's client, blocking and asynchronous."""

import struct
from base64 import b64decode
from typing import Any

from openai import AsyncOpenAI, NotFoundError, OpenAI


def embed(base_url: str, **asked: Any) -> list[list[float]]:
    """The vectors, whichever way they came; in the order of their index."""
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        return _vectors(client.embeddings.create(**asked))


async def embed_async(base_url: str, **asked: Any) -> list[list[float]]:
    async with AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        return _vectors(await client.embeddings.create(**asked))


def models(base_url: str) -> list[str]:
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        return [one.id for one in client.models.list()]


def model(base_url: str, name: str) -> str:
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        return client.models.retrieve(name).id


def missing_model(base_url: str, name: str) -> Any:
    """What is told of a model that is not there; the exception's text has it only where `error` is an object."""
    with OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        try:
            return client.models.retrieve(name).id
        except NotFoundError as error:
            return error.body


def _vectors(answer: Any) -> list[list[float]]:
    ordered = sorted(answer.data, key=lambda one: one.index)
    return [_floats(one.embedding) for one in ordered]


def _floats(vector: Any) -> list[float]:
    """As asked for by name base64 is not decoded by the client: float32, little-endian."""
    if isinstance(vector, str):
        content = b64decode(vector)
        return list(struct.unpack(f"<{len(content) // 4}f", content))
    return vector
