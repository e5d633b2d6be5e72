"""A flag that a client has gone, with a listener. Knows nothing of the work that it ends."""

from collections import deque
from collections.abc import Callable

from starlette.types import Scope

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


class Disconnects:
    """One Disconnect for each request of a connection that is not answered yet, oldest first."""

    def __init__(self) -> None:
        self._unanswered: deque[Disconnect] = deque()

    def __len__(self) -> int:
        return len(self._unanswered)

    def add(self, scope: Scope) -> None:
        """A request has begun: its scope gets one."""
        disconnect = scope[DISCONNECT] = Disconnect()
        self._unanswered.append(disconnect)

    def answered(self) -> None:
        """The oldest request has its answer."""
        if self._unanswered:
            self._unanswered.popleft()

    def set_all(self) -> None:
        """The client has gone."""
        for disconnect in self._unanswered:
            disconnect.set()
        self._unanswered.clear()
