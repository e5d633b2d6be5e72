"""What the learning commands show while they work, on standard error. Knows nothing of what they learn."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.errors import MixerError

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def bar() -> Progress:
    """A progress bar with a count and the time that is left."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def task_of(progress: Progress, description: str) -> Callable[[int, int], None]:
    """A new line in the bar, as a function of (done, total)."""
    task = progress.add_task(description, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def report_skipped(skipped: tuple[tuple[Path, str], ...]) -> None:
    """Name every picture that could not be read, and why."""
    for _, reason in skipped:
        console.print(f"skipped: {reason}")


def need(module: str, extra: str) -> None:
    """Raises MixerError with the command that installs what is missing."""
    if find_spec(module) is None:
        raise MixerError(f"This command needs {module}; install it with: pip install 'mixer-serve[{extra}]'.")
