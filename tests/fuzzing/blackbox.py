"""What a process was doing when it died: its input, and how many before it, in a file that outlives the process."""

import mmap
import struct
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fuzzing.targets import OUTCOMES, Checked, Cost

_HEAD = struct.Struct("<QQ")  # inputs begun, bytes of the current one
_CELL = struct.Struct("<Q")
_COST = struct.Struct("<dQ")  # processor seconds, bytes
_INPUT_BYTES = 1 << 21


class BlackBox:
    """Both sides open the same file: the process that is watched writes, the one that watches reads."""

    def __init__(self, path: Path, kinds: tuple[str, ...]) -> None:
        self._cells = [(kind, outcome) for kind in kinds for outcome in OUTCOMES]
        self._at = {cell: _HEAD.size + _CELL.size * index for index, cell in enumerate(self._cells)}
        costs_at = _HEAD.size + _CELL.size * len(self._cells)
        self._costs_at = {kind: costs_at + _COST.size * index for index, kind in enumerate(kinds)}
        self._input_at = costs_at + _COST.size * len(kinds)
        size = self._input_at + _INPUT_BYTES
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._map.close()

    def begin(self, payload: bytes) -> None:
        payload = payload[:_INPUT_BYTES]
        self._map[self._input_at : self._input_at + len(payload)] = payload
        _HEAD.pack_into(self._map, 0, self.begun + 1, len(payload))

    def end(self, checked: Checked, cost: Cost) -> None:
        at = self._at[checked.kind, checked.outcome]
        _CELL.pack_into(self._map, at, _CELL.unpack_from(self._map, at)[0] + 1)
        at = self._costs_at[checked.kind]
        _COST.pack_into(self._map, at, *cost.or_more(Cost(*_COST.unpack_from(self._map, at))))

    @property
    def begun(self) -> int:
        count: int = _HEAD.unpack_from(self._map)[0]
        return count

    @property
    def current(self) -> bytes:
        length: int = _HEAD.unpack_from(self._map)[1]
        return self._map[self._input_at : self._input_at + length]

    def worst(self) -> dict[str, Cost]:
        """The most that an input of each kind has cost."""
        return {kind: Cost(*_COST.unpack_from(self._map, at)) for kind, at in self._costs_at.items()}

    def tally(self) -> Counter[tuple[str, str]]:
        """How many inputs of which kind came to what."""
        return Counter({cell: _CELL.unpack_from(self._map, at)[0] for cell, at in self._at.items()})
