"""How each protocol tells its clients of an error, by the path that they asked. Knows none of the requests."""

from app.http.problems import PROBLEM_JSON, Form, Problem


def _error(problem: Problem) -> dict[str, object]:
    return {"error": problem.detail, **problem.members}


def _message(problem: Problem) -> dict[str, object]:
    return {"message": problem.detail, **problem.members}


def _openai(problem: Problem) -> dict[str, object]:
    kind = "server_error" if problem.status >= 500 else "invalid_request_error"
    return {"error": {"message": problem.detail, "type": kind, "param": None, "code": problem.code}}


def _torchserve(problem: Problem) -> dict[str, object]:
    kind = "".join(word.capitalize() for word in problem.code.split("_")) + "Exception"
    return {"code": problem.status, "type": kind, "message": problem.detail}


ERROR = Form(_error)  # Open Inference Protocol, KServe v1, TensorFlow Serving, Hugging Face
MESSAGE = Form(_message)  # Roboflow
OPENAI = Form(_openai)
TORCHSERVE = Form(_torchserve)

_BELOW = {
    "/v2": ERROR,
    "/v1/embeddings": OPENAI,
    "/v1": ERROR,
    "/hf": ERROR,
    "/predictions": TORCHSERVE,
    "/explanations": TORCHSERVE,
    "/ping": TORCHSERVE,
    "/invocations": ERROR,
    "/infer": MESSAGE,
    "/model/registry": MESSAGE,
}


def form_of(path: str) -> Form:
    """The form of errors at a path and below it; problem+json where no protocol of others is."""
    for start, form in _BELOW.items():
        if path.startswith(start) and path[len(start) : len(start) + 1] in ("", "/"):
            return form
    return PROBLEM_JSON
