"""How each protocol tells its clients of an error, by the path that they asked. Knows none of the requests."""

from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, Field

from app.api import schemas
from app.http.problems import PROBLEM_JSON, Form, Problem


class ErrorBody(schemas.Problem):
    """A problem, whose detail is in `error`, too."""

    error: str = Field(description="The thing, its value, and what was expected.")


class MessageBody(schemas.Problem):
    """A problem, whose detail is in `message`, too."""

    message: str = Field(description="The thing, its value, and what was expected.")


class OpenAIError(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str = Field(description="The thing, its value, and what was expected.")
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(default=None, description="Null: the message names what it is about.")
    code: str = Field(description="That of the problem, or OpenAI's own where it has one.")


class OpenAIErrorBody(BaseModel):
    """An error as OpenAI's clients read it."""

    error: OpenAIError


class TorchServeErrorBody(BaseModel):
    """An error as TorchServe's clients read it."""

    code: int = Field(description="The status of the answer.")
    type: str
    message: str = Field(description="The thing, its value, and what was expected.")


def _error(problem: Problem) -> dict[str, object]:
    return {"error": problem.detail, **problem.members}


def _message(problem: Problem) -> dict[str, object]:
    return {"message": problem.detail, **problem.members}


_OPENAIS_CODES = {"unknown_model": "model_not_found", "bad_api_key": "invalid_api_key"}


def _openai(problem: Problem) -> dict[str, object]:
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    code = _OPENAIS_CODES.get(problem.code, problem.code)
    return {"error": {"message": problem.detail, "type": kind, "param": None, "code": code}}


def _torchserve(problem: Problem) -> dict[str, object]:
    kind = "".join(word.capitalize() for word in problem.code.split("_")) + "Exception"
    return {"code": problem.status, "type": kind, "message": problem.detail}


ERROR = Form(_error, ErrorBody)  # KServe v1, TensorFlow Serving, Hugging Face
OIP = Form(_error, ErrorBody, statuses={422: 400})  # Open Inference Protocol: Triton has one status for bad input
MESSAGE = Form(_message, MessageBody)  # Roboflow
OPENAI = Form(_openai, OpenAIErrorBody)
TORCHSERVE = Form(_torchserve, TorchServeErrorBody)

_BELOW = {
    "/v2": OIP,
    "/v1/models": ERROR,
    "/v1": OPENAI,
    "/hf": ERROR,
    "/predictions": TORCHSERVE,
    "/explanations": TORCHSERVE,
    "/ping": TORCHSERVE,
    "/invocations": ERROR,
    "/infer": MESSAGE,
    "/model/add": MESSAGE,
    "/model/registry": MESSAGE,
}

_LONGEST = max(map(len, _BELOW)) + 1  # characters of a path that decide


def form_of(path: str) -> Form:
    """The form of errors at a path and below it; problem+json where no protocol of others is."""
    return _form_of(path[:_LONGEST])


@lru_cache(maxsize=128)  # every refusal asks for one
def _form_of(path: str) -> Form:
    if path == "/":
        return ERROR
    for start, form in _BELOW.items():
        if path.startswith(start) and path[len(start) : len(start) + 1] in ("", "/"):
            return form
    return PROBLEM_JSON
