"""One client in a process of its own: each line of stdin is a call, each line of stdout what came of it.

`python -m tests.clients.judges CLIENT` runs the functions of that module by their names.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a client prints goes elsewhere
    client = importlib.import_module(f"tests.clients.judges.{sys.argv[1]}")
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            asked = json.loads(line)
            call = getattr(client, asked["function"])
            print(json.dumps(_outcome(runner, call, asked["arguments"])), file=answers, flush=True)


def _outcome(runner: asyncio.Runner, call: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        value = call(**arguments)
        return {"answer": runner.run(value) if inspect.iscoroutine(value) else value}
    except Exception as error:  # noqa: BLE001 -- judged by the test
        text = error.details() if hasattr(error, "details") else str(error)  # gRPC's has the words apart
        return {"raised": type(error).__name__, "text": text}


main()
