"""huggingface_hub's InferenceClient and AsyncInferenceClient."""

import base64
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient


def classify(url: str, picture: str | None = None, path: str | None = None, **options: Any) -> list[tuple[str, float]]:
    sent = path if path is not None else base64.b64decode(picture or "")
    return [(one.label, one.score) for one in InferenceClient(model=url).image_classification(sent, **options)]


async def classify_async(url: str, path: str, **options: Any) -> list[tuple[str, float]]:
    async with AsyncInferenceClient(model=url) as client:
        return [(one.label, one.score) for one in await client.image_classification(path, **options)]
