"""Word that a client has gone, for whoever works for it. Knows nothing of what is worked on."""

from collections.abc import Callable

DISCONNECT = "mixer.disconnect"  # in the scope of a request whose connection tells


class Disconnect:
    """Calls its `listener` when the client goes, where there is one. `is_set`: whether it has gone."""

    __slots__ = ("is_set", "listener")

    def __init__(self) -> None:
        self.is_set = False
        self.listener: Callable[[], object] | None = None

    def set(self) -> None:
        """The client has gone."""
        self.is_set = True
        if self.listener is not None:
            self.listener()
