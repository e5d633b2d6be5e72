"""Word that a client has gone: whoever listens is told."""

from app.http.disconnect import Disconnect


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
