"""Plain FastAPI: a `def` endpoint, which runs in a pool of threads. `uvicorn --factory ...:create_app` serves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse

from benchmarks.peers.body import read_image
from benchmarks.peers.classifier import ROUTE, Classifier, Options


def create_app() -> FastAPI:
    """The application of one worker."""
    options = Options.from_environment()
    classifier = Classifier(options)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = options.pool
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post(ROUTE)
    def classify(payload: Annotated[bytes, Depends(read_image)]) -> JSONResponse:
        return JSONResponse(classifier.answer(payload))

    return app
