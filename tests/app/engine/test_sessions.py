"""Sessions still run where they did when they were opened, or it is told."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.engine.session import ONNX_RUNTIME
from app.engine.sessions import Sessions
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession

SPEC = color_spec()
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Moody(FakeSession):
    """Its providers may change."""

    def __init__(self, providers: Sequence[str]) -> None:
        super().__init__(SPEC)
        self.now = providers

    def get_providers(self) -> Sequence[str]:
        return self.now


def opened(*sessions: Moody) -> Sessions:
    waiting = list(sessions)
    watched = Sessions(replace(ONNX_RUNTIME, open=lambda *_: waiting.pop(0)))
    for session in sessions:
        options: Any = None
        assert watched.runtime.open(Path("fp32.onnx"), options, []) is session
    return watched


def test_what_runs_where_it_did_has_lost_nothing() -> None:
    first, second = Moody([CUDA, CPU]), Moody((CPU,))
    sessions = opened(first, second)
    assert sessions.lost_provider() is None
    first.now = (CUDA, CPU)
    assert sessions.lost_provider() is None


def test_a_provider_that_is_lost_is_told_and_told_no_more_when_it_is_back() -> None:
    first, second = Moody([CUDA, CPU]), Moody([CUDA, CPU])
    sessions = opened(first, second)
    second.now = [CPU]
    words = f"The graph runs on {CPU}; expected {CUDA}, {CPU}, as when it was opened."
    assert sessions.lost_provider() == words
    second.now = [CUDA, CPU]
    assert sessions.lost_provider() is None


def test_no_session_is_kept_alive_and_one_that_is_gone_has_lost_nothing() -> None:
    session = Moody([CUDA])
    sessions, gone = opened(session), weakref.ref(session)
    session.now = [CPU]
    del session
    gc.collect()
    assert gone() is None
    assert sessions.lost_provider() is None


def test_without_sessions_nothing_is_lost() -> None:
    assert Sessions().lost_provider() is None
