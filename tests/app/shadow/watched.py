"""Counts of a shadow that tests can wait for."""

from app.system.shared_memory import SharedMemory
from app.telemetry.instruments import Counter, Number
from app.telemetry.shadow_metrics import ShadowMetrics
from tests.app.fakes import Happenings


class WatchedShadowMetrics(ShadowMetrics, Happenings):
    """What becomes of pictures, in `outcomes`, in the order in which it is counted."""

    def __init__(self) -> None:
        ShadowMetrics.__init__(self, SharedMemory().segment(0))
        Happenings.__init__(self)
        self.outcomes: list[str] = []
        self.images = _Watched(self)

    async def counted(self, count: int) -> list[str]:
        """Until so many pictures are counted."""
        await self.until(lambda: len(self.outcomes) >= count)
        return self.outcomes


class _Watched(Counter):
    def __init__(self, metrics: WatchedShadowMetrics) -> None:
        super().__init__(SharedMemory().segment(0), "images", "Watched.", ["model", "shadow", "outcome"])
        self._metrics = metrics

    def labels(self, *values: str) -> Number:
        if values:
            self._metrics.outcomes.append(values[-1])
            self._metrics.changed()
        return super().labels(*values)
