"""Progress of the learning commands, on standard error. Knows nothing of training."""

import shlex
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from model.errors import MixerError

console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def bar() -> Progress:
    """A progress bar with a count and the time that is left; nothing where standard error is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


class _Rate(ProgressColumn):
    """Pictures a second, for tasks that count batches of them."""

    def render(self, task: Task) -> Text:
        each = task.fields.get("each")
        return Text("" if each is None or task.speed is None else f"{task.speed * each:.0f} images/s")


def task_of(progress: Progress, description: str, *, each: int | None = None) -> Callable[[int, int], None]:
    """A new line in the bar, as a function of (done, total); told how many pictures `each` one has, with their rate."""
    task = progress.add_task(description, total=None, visible=False, each=each)
    return lambda done, total: progress.update(task, completed=done, total=total, visible=True)


def command_line(*words: object) -> str:
    """A command of `mixer` as a shell takes it, begun as this one was."""
    started = Path(sys.argv[0])
    if started.parts[-2:] == ("cli", "__main__.py"):
        first = [sys.executable, "-m", "cli"]
    elif started.name == "mixer" and not _is_found_by_name(started):
        first = [sys.argv[0]]
    else:
        first = ["mixer"]
    return shlex.join([*first, *map(str, words)])


def _is_found_by_name(command: Path) -> bool:
    found = shutil.which(command.name)
    return found is not None and Path(found).absolute() == command.absolute()


def require_extra(module: str) -> None:
    """Raises MixerError with the command that installs what is missing."""
    if find_spec(module) is None:
        raise MixerError(f"This command needs {module}; install it with: scripts/install cpu,train,export")
