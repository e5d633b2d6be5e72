"""Numbers and words that the processes of one service share: each writes its own segment, and any reads all.

The memory is anonymous and inherited over fork, so that nothing is written to a disk. A segment outlives its process:
the one that replaces it goes on counting there. A segment may also have one number for each process, which only it
writes. Knows nothing of what the numbers mean.
"""

import mmap
import struct
from collections.abc import Iterator

_NAME_BYTES = 12 << 20  # room for names; untouched memory takes none
_NUMBERS = 512 << 10  # most numbers of a segment
_WORDS_BYTES = 1024
_USED = struct.Struct("q")
_SEGMENT_BYTES = _USED.size + _WORDS_BYTES + _NAME_BYTES + 8 * _NUMBERS


class Segment:
    """The numbers of one process, by name. Only that process adds names; a name keeps its offset for good."""

    def __init__(self, memory: memoryview) -> None:
        names_at = _USED.size + _WORDS_BYTES
        self._used = memory[: _USED.size]
        self._words = memory[_USED.size : names_at]
        self._names = memory[names_at : names_at + _NAME_BYTES]
        self.numbers = memory[names_at + _NAME_BYTES :].cast("d")
        self._offsets = {name: (at, count) for name, at, count in self._listed()}
        self._next = sum(count for _, count in self._offsets.values())

    def offset_of(self, name: str, count: int = 1) -> int:
        """Where in `numbers` the `count` numbers of this name begin; zeros at first."""
        if name in self._offsets:
            return self._offsets[name][0]
        entry = f"{count} {name}\n".encode()
        (used,) = _USED.unpack(self._used)
        if used + len(entry) > _NAME_BYTES or self._next + count > _NUMBERS:
            raise MemoryError(f"The shared memory has no room for {name}; expected fewer different names.")
        self._names[used : used + len(entry)] = entry
        at = self._next
        self._next += count
        self._offsets[name] = (at, count)
        _USED.pack_into(self._used, 0, used + len(entry))  # readers see the name once it is whole
        return at

    def set_message(self, words: str) -> None:
        """Words for the others; nothing is an answer too. What does not fit is cut off."""
        self._words[:] = words.encode()[: _WORDS_BYTES - 1].ljust(_WORDS_BYTES, b"\0")

    def message(self) -> str:
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


class SharedMemory:
    """One segment for each process."""

    def __init__(self, segments: int = 1) -> None:
        self._memory = memoryview(mmap.mmap(-1, segments * _SEGMENT_BYTES))
        self._count = segments

    def segment(self, index: int) -> Segment:
        """The segment at `index`, for the one process that writes it, or for reading."""
        return Segment(self._memory[index * _SEGMENT_BYTES : (index + 1) * _SEGMENT_BYTES])

    def segments(self) -> list[Segment]:
        """All segments, for reading."""
        return [self.segment(index) for index in range(self._count)]
