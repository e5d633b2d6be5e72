"""Several sessions: one for all graphs of the same bytes, and whether they still run where they were opened.

Knows nothing of bundles. Sessions are shared only on a CPU, where ONNX Runtime lets several threads run one at once.
"""

import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

import onnxruntime

from app.engine.providers import Providers, is_cpu_alone
from app.engine.session import ONNX_RUNTIME, Runtime, Session

_CHUNK_BYTES = 1 << 20
_EXTERNAL = b"\x0a\x08location"  # how ONNX begins to name another file of weights, whose bytes are not in this one

_Key = tuple[bytes, int]  # of a graph's bytes, and how many threads run it


class Sessions:
    """The sessions that were opened through `runtime`. It keeps none of them alive."""

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


class SharedSessions:
    """What is opened through `runtime` is shared as long as it lives: this keeps no session alive.

    Several threads may open at once; those that open the same graph wait for the first of them.
    """

    def __init__(self, runtime: Runtime = ONNX_RUNTIME) -> None:
        self._open_alone = runtime.open
        self._lock = Lock()
        self._opening: WeakValueDictionary[_Key, Lock] = WeakValueDictionary()
        self._sessions: WeakValueDictionary[_Key, Session] = WeakValueDictionary()
        self.runtime = replace(runtime, open=self._open)

    def _open(self, path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Session:
        before = state_of_file(path)
        digest = digest_of(path) if is_cpu_alone(providers) else None
        if digest is None:
            return self._open_alone(path, options, providers)
        key = (digest, options.intra_op_num_threads)
        with self._lock:
            opening = self._opening.setdefault(key, Lock())
        with opening:
            session = self._sessions.get(key)
            if session is None:
                session = self._open_alone(path, options, providers)
                if state_of_file(path) == before:
                    self._sessions[key] = session
            return session


def digest_of(path: Path) -> bytes | None:
    """SHA-256 of a graph's bytes; None where some of its weights lie in other files. Raises OSError."""
    digest, end = hashlib.sha256(), b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if _EXTERNAL in end + chunk[: len(_EXTERNAL)] or _EXTERNAL in chunk:
                return None
            digest.update(chunk)
            end = chunk[-len(_EXTERNAL) :]
    return digest.digest()


def state_of_file(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
