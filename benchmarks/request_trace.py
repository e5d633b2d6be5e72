"""The functions of app/ and model/ that one request for POST /classify goes through: how many calls, in how many files.

    python -m benchmarks.request_trace [--list]

Serves the default bundle in this process and sends it a picture as a raw body, then in a form. A call counts wherever
it is made, in the event loop or in another thread, from the head of the request until a moment after its answer; so
does each time that a coroutine is entered again after it has waited. A change of file is a call in another file than
the call before. What a timer of the service calls is no part of it; of forty requests the one with the fewest calls
counts, for what else runs beside them.
--list prints the calls of the raw body in order.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import httpx

from benchmarks.serving.server import free_ports

ROOT = Path(__file__).resolve().parents[1]
_OWN = tuple(f"{ROOT / package}{os.sep}" for package in ("app", "model"))
_TIMERS = {"OnTheirWay._look", "Reload.watch", "Server.on_tick"}
_WARM_UPS, _REQUESTS = 20, 40
_AFTERWARDS_S = 0.05  # what is counted and logged once an answer has left
_READY_S = 60.0


class Call(NamedTuple):
    """One call of a function."""

    file: str
    function: str


class Trace:
    """The calls that are made while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.calls: list[Call] = []

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """A profile function, as sys.setprofile takes it."""
        if event == "call" and self.is_on and frame.f_code.co_filename.startswith(_OWN) and not _is_of_a_timer(frame):
            self.calls.append(Call(frame.f_code.co_filename, frame.f_code.co_qualname))


def _is_of_a_timer(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_qualname not in _TIMERS:
        frame = frame.f_back
    return frame is not None


def figures(calls: list[Call]) -> dict[str, int]:
    """How many calls, of how many functions, in how many files, with how many changes of file."""
    return {
        "calls": len(calls),
        "functions": len(set(calls)),
        "files": len({call.file for call in calls}),
        "changes": sum(one.file != other.file for one, other in pairwise(calls)),
    }


def _traced(client: httpx.Client, trace: Trace, request: httpx.Request) -> list[Call]:
    for _ in range(_WARM_UPS):
        client.send(request).raise_for_status()
    shortest: list[Call] = []
    for _ in range(_REQUESTS):
        trace.calls, trace.is_on = [], True
        client.send(request).raise_for_status()
        time.sleep(_AFTERWARDS_S)
        trace.is_on = False
        if not shortest or len(trace.calls) < len(shortest):
            shortest = trace.calls
    return shortest


def _ask(url: str, trace: Trace, found: dict[str, list[Call]]) -> None:
    """Trace both kinds of request, then end the service."""
    image = (ROOT / "examples" / "fashion-mnist" / "ankle-boot.png").read_bytes()
    try:
        with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=20)) as client:
            _wait_until_ready(client)
            requests: Mapping[str, httpx.Request] = {
                "raw": client.build_request("POST", "/classify", content=image),
                "form": client.build_request("POST", "/classify", files={"file": ("picture.png", image)}),
            }
            for kind, request in requests.items():
                found[kind] = _traced(client, trace, request)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def _wait_until_ready(client: httpx.Client) -> None:
    until = time.monotonic() + _READY_S
    while client.get("/health/ready").status_code != httpx.codes.OK:
        if time.monotonic() > until:
            raise TimeoutError(f"The service was not ready after {_READY_S:g} s.")
        time.sleep(_AFTERWARDS_S)


def main() -> None:
    """Print the figures, a line of JSON for each kind of request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the calls of the raw body, too")
    wants_list = parser.parse_args().list
    trace, found, port = Trace(), dict[str, list[Call]](), free_ports(1)[0]
    asking = threading.Thread(target=_ask, args=(f"http://127.0.0.1:{port}", trace, found))
    asking.start()
    threading.setprofile(trace)
    sys.setprofile(trace)
    sys.argv = [
        "mixer",
        "serve",
        "--port",
        str(port),
        "--bundle",
        str(ROOT / "bundles" / "fashion-mnist"),
        "--workers",
        "1",
        "--log-level",
        "warning",
    ]
    from cli.main import main as serve  # noqa: PLC0415 -- threads that are started by imports are traced, too

    try:
        serve()
    except SystemExit:
        asking.join()
    for kind, calls in found.items():
        print(json.dumps({"request": kind} | figures(calls)))
    if wants_list:
        for call in found["raw"]:
            print(f"{Path(call.file).relative_to(ROOT)} {call.function}")


if __name__ == "__main__":
    main()
