"""Answers as the service gives them, without one, and a clock that only tests move."""

from collections.abc import Callable

import httpx

CLASSIFIED = {
    "model": {"name": "colours", "version": "7", "precision": "fp32"},
    "predictions": [
        {"label": "red", "index": 0, "probability": 0.9},
        {"label": "blue", "index": 2, "probability": 0.1},
    ],
}
TIMING = 'receive;dur=0.05, decode;dur=0.40, queue;dur=0.10, infer;dur=1.20, batch;desc="3", total;dur=2.00'


def classified(**more: object) -> httpx.Response:
    headers = {"X-Request-ID": "id-1", "Server-Timing": TIMING}
    return httpx.Response(200, json={**CLASSIFIED, **more}, headers=headers)


def problem(status: int, code: str, detail: str = "It is so.", **headers: str) -> httpx.Response:
    body = {"type": f"urn:{code}", "title": "T", "status": status, "detail": detail, "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=body, headers={"X-Request-ID": "id-2", **named})


def busy(seconds: float | str = 1) -> httpx.Response:
    return problem(429, "queue_full", "There is no room.", Retry_After=str(seconds))


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """Answers one request after the other as `answers` says, then as the last of them; keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return (
            answer(request)
            if callable(answer)
            else httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        )

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)
