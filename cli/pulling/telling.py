"""How far a download is, on standard error: a bar on a terminal, else a line for each tenth. Knows no downloads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cli.terminal import console

_STEPS = 10


@contextmanager
def bytes_told(what: str) -> Iterator[Callable[[int, int], None]]:
    """While inside, a function of (done, total) in bytes."""
    if not console.is_terminal:
        yield _Tenths(what).tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(what, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total or None, visible=True)


class _Tenths:
    """A line whenever another tenth is done, and none for the part that was there before."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told: int | None = None

    def tell(self, done: int, total: int) -> None:
        """Note that `done` of `total` bytes are there."""
        if not total:
            return
        step = done * _STEPS // total
        if self._told is not None and step > self._told:
            console.print(f"{self._what}: {step * 100 // _STEPS} % of {total / 1e6:.0f} MB")
        self._told = step
