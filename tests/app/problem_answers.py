"""What every error of the service looks like to a client."""

from typing import Any

import httpx

_TITLES = {
    "bad_picture": "Not a readable picture",
    "bad_request": "Malformed request",
    "bad_api_key": "API key missing or wrong",
    "forbidden": "Forbidden",
    "too_many_bytes": "Too many bytes",
    "too_many_pixels": "Too many pixels",
    "unsupported_format": "Format not accepted",
    "bad_parameter": "Bad parameter",
    "queue_full": "Queue full",
    "uploads_full": "Too many uploads",
    "head_too_large": "Request header fields too large",
    "inference_failed": "Inference failed",
    "internal_error": "Internal error",
    "unknown_transfer_coding": "Transfer coding not known",
    "out_of_memory": "Out of memory",
    "too_many_connections": "Too many connections",
    "not_ready": "Not ready",
    "deadline_passed": "Deadline passed",
    "not_found": "Not found",
    "unknown_model": "Unknown model",
    "unknown_request": "Unknown request",
    "no_card": "No model card",
    "no_embedding": "No embedding",
    "reload_refused": "Reload refused",
    "method_not_allowed": "Method not allowed",
}


def expect_problem(answer: httpx.Response, status: int, code: str, *words: str) -> str:
    """Check an RFC 9457 answer, all of it; `words` are parts of its detail. Returns the detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return expect_problem_body(answer.json(), status, code, *words)


def expect_problem_body(body: Any, status: int, code: str, *words: str) -> str:
    detail: str = body["detail"]
    assert body == {
        "type": f"urn:mixer-serve:{code}",
        "title": _TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
    }
    for word in words:
        assert word in detail
    assert "Traceback" not in detail
    assert "\n" not in detail
    return detail
