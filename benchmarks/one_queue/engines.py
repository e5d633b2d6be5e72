"""Processes that decode and run batches of pictures, and how a front end hands them over. Knows no HTTP.

A picture lies in a slot of memory that all processes share; which slots make a batch goes over a socket, and the answer
to it comes back in the batch's first slot. An engine has one thread, which waits, decodes, runs and answers.
"""

import asyncio
import mmap
import os
import pickle
import signal
import socket
import struct
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOT_BYTES = 4 << 20
_HEADER = struct.Struct("<I?")  # bytes of a picture, and whether they are pickled pixels
_NUMBER = struct.Struct("<H")
_LENGTH = struct.Struct("<I")

Picture = bytes | NDArray[np.uint8]
Run = Callable[[Sequence[Picture]], list[object]]


class Engines:
    """`count` processes, each of which gets what `open_run` returns there. `depth`: batches that one has at most.

    A batch has `most` pictures at most, of SLOT_BYTES less a few bytes each. `shares_out`: for whoever makes batches.
    """

    def __init__(self, count: int, depth: int, most: int, open_run: Callable[[], Run], *, shares_out: bool) -> None:
        self.count, self.depth, self.shares_out = count, depth, shares_out
        self._memory = mmap.mmap(-1, count * depth * most * SLOT_BYTES)
        self._free = [deque(range(number * depth * most, (number + 1) * depth * most)) for number in range(count)]
        self._sockets: list[socket.socket] = []
        self._waiting: list[deque[tuple[list[int], asyncio.Future[list[object]]]]] = [deque() for _ in range(count)]
        self.processes = [self._fork(open_run) for _ in range(count)]
        self._listens = False

    def _fork(self, open_run: Callable[[], Run]) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if pid := os.fork():
            theirs.close()
            ours.setblocking(False)
            self._sockets.append(ours)
            return pid
        try:
            ours.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _work(theirs, self._memory, open_run())
        except BaseException:  # noqa: BLE001 -- a fork ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(0)

    def run(self, batch: Sequence[Picture]) -> "asyncio.Future[list[object]]":
        """What an engine with the fewest batches answers: a list as long as the batch."""
        loop = asyncio.get_running_loop()
        if not self._listens:
            self._listens = True
            for number, one in enumerate(self._sockets):
                loop.add_reader(one.fileno(), self._heard, number)
        for picture in batch:
            if len(picture) > SLOT_BYTES - _HEADER.size:
                raise ValueError(f"A picture has {len(picture)} bytes; expected at most {SLOT_BYTES - _HEADER.size}.")
        number = min(range(self.count), key=lambda each: len(self._waiting[each]))
        slots = [self._free[number].popleft() for _ in batch]
        for slot, picture in zip(slots, batch, strict=True):
            self._put(slot, picture)
        future: asyncio.Future[list[object]] = loop.create_future()
        self._waiting[number].append((slots, future))
        self._sockets[number].send(b"".join(map(_NUMBER.pack, slots)))
        return future

    def close(self) -> None:
        """Let the processes end."""
        for one in self._sockets:
            one.close()
        for process in self.processes:
            os.waitpid(process, 0)

    def _put(self, slot: int, picture: Picture) -> None:
        plain = isinstance(picture, bytes)
        content = picture if isinstance(picture, bytes) else pickle.dumps(picture)
        at = slot * SLOT_BYTES
        self._memory[at : at + _HEADER.size] = _HEADER.pack(len(content), not plain)
        self._memory[at + _HEADER.size : at + _HEADER.size + len(content)] = content

    def _heard(self, number: int) -> None:
        try:
            self._sockets[number].recv(1)
        except BlockingIOError:
            return
        slots, future = self._waiting[number].popleft()
        at = slots[0] * SLOT_BYTES
        (length,) = _LENGTH.unpack_from(self._memory, at)
        answers = pickle.loads(memoryview(self._memory)[at + _LENGTH.size : at + _LENGTH.size + length])  # noqa: S301
        self._free[number].extend(slots)
        if not future.done():
            future.set_result(answers)


def _work(ours: socket.socket, memory: mmap.mmap, run: Run) -> None:
    """Until the front end is gone."""
    while message := ours.recv(4096):
        slots = [number for (number,) in _NUMBER.iter_unpack(message)]
        answer: Any = pickle.dumps(run([_get(memory, slot) for slot in slots]), protocol=5)
        at = slots[0] * SLOT_BYTES
        memory[at : at + _LENGTH.size + len(answer)] = _LENGTH.pack(len(answer)) + answer
        ours.send(b".")


def _get(memory: mmap.mmap, slot: int) -> Picture:
    at = slot * SLOT_BYTES
    length, is_pickled = _HEADER.unpack_from(memory, at)
    content = memory[at + _HEADER.size : at + _HEADER.size + length]
    return pickle.loads(content) if is_pickled else content  # noqa: S301
