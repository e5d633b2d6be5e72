"""Whether the sessions of an engine still run where they did when they were opened. Knows nothing of graphs."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnxruntime

from app.engine.providers import Providers
from app.engine.session import ONNX_RUNTIME, Runtime, Session


class Sessions:
    """Those that were opened through `runtime`, as long as they live: it keeps none of them alive."""

    def __init__(self, runtime: Runtime = ONNX_RUNTIME) -> None:
        self._open_session = runtime.open
        self._opened: list[tuple[weakref.ref[Session], Sequence[str]]] = []
        self.runtime = replace(runtime, open=self._open)

    def lost_provider(self) -> str | None:
        """What has become of the one that has lost its providers; None where none has."""
        for reference, before in self._opened:
            session = reference()
            now = before if session is None else list(session.get_providers())
            if now != before:
                return f"The graph runs on {', '.join(now)}; expected {', '.join(before)}, as when it was opened."
        return None

    def _open(self, path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Session:
        session = self._open_session(path, options, providers)
        self._opened.append((weakref.ref(session), list(session.get_providers())))
        return session
