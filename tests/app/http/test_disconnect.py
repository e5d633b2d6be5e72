"""Word that a client has gone: whoever listens is told."""

from typing import Any

from app.http.disconnect import DISCONNECT, Disconnect, Disconnects


def test_a_listener_is_told() -> None:
    told: list[str] = []
    disconnect = Disconnect()
    disconnect.listener = lambda: told.append("told")
    assert (told, disconnect.is_set) == ([], False)
    disconnect.set()
    assert (told, disconnect.is_set) == (["told"], True)


def test_who_listens_no_more_is_not_told() -> None:
    told: list[str] = []
    disconnect = Disconnect()
    disconnect.listener = lambda: told.append("told")
    disconnect.listener = None
    disconnect.set()
    assert (told, disconnect.is_set) == ([], True)


def test_a_connection_tells_every_request_that_is_not_answered() -> None:
    scopes: list[dict[str, Any]] = [{}, {}, {}]
    disconnects = Disconnects()
    for scope in scopes:
        disconnects.add(scope)
    disconnects.answered()
    disconnects.set_all()
    assert [scope[DISCONNECT].is_set for scope in scopes] == [False, True, True]
    assert not disconnects
    disconnects.answered()  # of none: an answer that comes after the client has gone
