"""Processes that each have the model, and answer for batches of pictures. Know nothing of the order of batches.

Each has a few channels: while one batch is computed, the next is read. A process ends with the one that started it,
however that ends, as its channels do.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

from app.errors import StartError
from app.settings import Settings
from cli.bulk.entries import Ready
from cli.bulk.labeler import Task
from cli.bulk.outcomes import Outcome

Answer = Callable[[Sequence[Ready]], list[Outcome]]
_READ_AHEAD = 1  # batches of a process that are read while others are computed
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


class ProcessDied(StartError):
    """A process with the model ended by itself: killed for its memory, perhaps."""


class Answering(NamedTuple):
    """What answers, each in one thread at a time, and the model that does."""

    answers: Sequence[Answer]
    model: Mapping[str, str]


@contextmanager
def answering(settings: Settings, task: Task) -> Iterator[Answering]:
    """As many processes as `settings` has workers, or this one for 1; they end with the context.

    Raises: StartError where the bundle cannot be opened or does not give what is asked for.
    """
    if settings.workers <= 1:
        from cli.bulk.local_model import open_local  # noqa: PLC0415

        model, named = open_local(settings, task, processes=1)
        yield Answering([model.outcomes] * _channels(settings), named)
        return
    started = [_Process(settings, task) for _ in range(settings.workers)]
    try:
        models = [process.model() for process in started]
        yield Answering([answer for process in started for answer in process.answers], models[0])
    finally:
        for process in started:
            process.stop()


def _channels(settings: Settings) -> int:
    return max(1, settings.decode_threads) + _READ_AHEAD


class _Process:
    """One process, spawned: it shares nothing with this one."""

    def __init__(self, settings: Settings, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._hello, hello = context.Pipe()
        ends = [context.Pipe() for _ in range(_channels(settings))]
        self._channels = [here for here, _ in ends]
        theirs = [there for _, there in ends]
        self.answers: list[Answer] = [_Asked(channel).answer for channel in self._channels]
        self._process = context.Process(target=_work, args=(settings, task, hello, theirs), daemon=True)
        os.environ.setdefault(_NO_TELEMETRY, "1")
        self._process.start()
        for end in (hello, *theirs):
            end.close()

    def model(self) -> Mapping[str, str]:
        """What tells its model, once that is open. Raises StartError."""
        found = _received(self._hello)
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, dict)  # noqa: S101 -- what _work sends
        return found

    def stop(self) -> None:
        """Whatever it does is wanted by nobody."""
        self._process.kill()
        self._process.join()
        self._process.close()
        for channel in (self._hello, *self._channels):
            channel.close()


class _Asked:
    """This end of one channel."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel

    def answer(self, batch: Sequence[Ready]) -> list[Outcome]:
        """The outcomes of a batch. Raises ProcessDied, and what stopped the other end."""
        try:
            self._channel.send(batch)
        except OSError as error:
            raise _died() from error
        found = _received(self._channel)
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, list)  # noqa: S101 -- what _serve sends
        return found


def _received(channel: Connection) -> object:
    try:
        return channel.recv()
    except (EOFError, OSError) as error:
        raise _died() from error


def _died() -> ProcessDied:
    return ProcessDied("A process with the model has ended by itself; expected it to stay: is there memory enough?")


def _work(settings: Settings, task: Task, hello: Connection, channels: Sequence[Connection]) -> None:
    """What runs in the process: opens the model, then answers on every channel in a thread of its own."""
    for number in (signal.SIGINT, signal.SIGTERM):  # which a terminal, or an init system, sends to all of a group
        signal.signal(number, signal.SIG_IGN)  # they are for the process that started this one, and ends it
    from cli.bulk.local_model import open_local  # noqa: PLC0415
    from model.data.pillow_warnings import silenced  # noqa: PLC0415

    with suppress(OSError):  # nobody listens any more
        try:
            model, named = open_local(settings, task, processes=settings.workers)
        except Exception as error:  # noqa: BLE001 -- it is told where somebody reads it
            hello.send(error)
            return
        hello.send(named)
    threads = [threading.Thread(target=_serve, args=(channel, model.outcomes)) for channel in channels]
    with silenced():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _serve(channel: Connection, answer: Answer) -> None:
    with suppress(EOFError, OSError):  # the other end has gone
        while True:
            batch = channel.recv()
            try:
                found: object = answer(batch)
            except Exception as error:  # noqa: BLE001 -- it is told where somebody reads it
                found = error
            channel.send(found)
