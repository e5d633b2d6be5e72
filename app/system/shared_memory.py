"""Numbers and words that the processes of one service share: each writes its own row, and any of them reads all rows.

The memory is anonymous and inherited over fork, so that nothing is written to a disk. A row outlives its process: the
one that takes its place goes on counting there. A row may also have one number for each process, which only that one
writes. Knows nothing of what the numbers mean.
"""

import mmap
import struct
from collections.abc import Iterator

_NAME_BYTES = 12 << 20  # room for names; untouched memory takes none
_NUMBERS = 512 << 10  # most numbers of a row
_WORDS_BYTES = 1024
_USED = struct.Struct("q")
_ROW_BYTES = _USED.size + _WORDS_BYTES + _NAME_BYTES + 8 * _NUMBERS


class Row:
    """The numbers of one process, by name. Only that process adds names; a name keeps its place for good."""

    def __init__(self, memory: memoryview) -> None:
        names_at = _USED.size + _WORDS_BYTES
        self._used = memory[: _USED.size]
        self._words = memory[_USED.size : names_at]
        self._names = memory[names_at : names_at + _NAME_BYTES]
        self.numbers = memory[names_at + _NAME_BYTES :].cast("d")
        self._places = {name: (at, count) for name, at, count in self._listed()}
        self._next = sum(count for _, count in self._places.values())

    def place(self, name: str, count: int = 1) -> int:
        """Where in `numbers` the `count` numbers of this name begin; zeros at first."""
        if name in self._places:
            return self._places[name][0]
        entry = f"{count} {name}\n".encode()
        (used,) = _USED.unpack(self._used)
        if used + len(entry) > _NAME_BYTES or self._next + count > _NUMBERS:
            raise MemoryError(f"The board has no room for {name}; expected fewer different names.")
        self._names[used : used + len(entry)] = entry
        at = self._next
        self._next += count
        self._places[name] = (at, count)
        _USED.pack_into(self._used, 0, used + len(entry))  # readers see the name once it is whole
        return at

    def say(self, words: str) -> None:
        """Words for the others; nothing is an answer too. What does not fit is cut off."""
        self._words[:] = words.encode()[: _WORDS_BYTES - 1].ljust(_WORDS_BYTES, b"\0")

    def said(self) -> str:
        """What its process said last."""
        return bytes(self._words).partition(b"\0")[0].decode(errors="replace")

    def read(self) -> Iterator[tuple[str, list[float]]]:
        """Every name with its numbers, as they are now."""
        for name, at, count in self._listed():
            yield name, list(self.numbers[at : at + count])

    def _listed(self) -> Iterator[tuple[str, int, int]]:
        (used,) = _USED.unpack(self._used)
        at = 0
        for line in bytes(self._names[:used]).decode().splitlines():
            count, _, name = line.partition(" ")
            yield name, at, int(count)
            at += int(count)


class Board:
    """As many rows as there are processes."""

    def __init__(self, rows: int = 1) -> None:
        self._memory = memoryview(mmap.mmap(-1, rows * _ROW_BYTES))
        self._count = rows

    def row(self, index: int) -> Row:
        """The row at `index`, for the one process that writes it, or for reading."""
        return Row(self._memory[index * _ROW_BYTES : (index + 1) * _ROW_BYTES])

    def rows(self) -> list[Row]:
        """All of them, for reading."""
        return [self.row(index) for index in range(self._count)]
