"""A teacher's logits for views of pictures that repeat, in a file, so that the teacher need see each view only once.

Knows nothing of networks, nor of what a view is; its place among all views is enough. Each number of the file is its
own mark of being there: a zero is absent, and a logit of 0 is written as -0. So nothing that was written is lost when
a process is killed, nothing is half there, and several processes may write to one file.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import TrainingError
from model.network.checkpoint_folder import write_atomically, write_failure
from model.network.run_folder import LESSONS, LESSONS_KEY
from model.recipe import Augmentation, Recipe
from model.training.processes import Processes

_MOST, _MINUS_ZERO = 65504.0, 0x8000  # the largest fp16; the bits of -0
_IN_WORDS = {"teacher": "of another teacher", "data": "on other data"}


def key_of(recipe: Recipe, teacher: str, fingerprint: str) -> dict[str, Any]:
    """All that decides a teacher's logits and their order. teacher: its name; fingerprint: of the data."""
    settings = {"seed", "views", "batch_size", "teacher_undistorted", *Augmentation.model_fields}
    return {"teacher": teacher, "data": fingerprint, **recipe.model_dump(include=settings)}


class StoredLogits:
    """Logits float16 [views, pictures, K] in `folder`, in the order in which a run shows the pictures.

    key: what the logits depend on, as key_of has it. `open` comes before `logits`.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], num_pictures: int, num_classes: int) -> None:
        self._folder, self._key = folder, key
        self._shape = (key["views"], num_pictures, num_classes)
        self._num_bytes = 2 * math.prod(self._shape)
        self._bits: NDArray[np.uint16] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the folder holds all of these logits, so that nothing is left for the teacher."""
        path = self._folder / LESSONS
        if self._read_key() != self._key or not path.is_file() or path.stat().st_size != self._num_bytes:
            return False
        return all(view.all() for view in self._mapped()[::-1])  # the last ones are the first to be absent

    def expect_same(self) -> None:
        """Raises TrainingError where the folder holds other logits, or a broken file; a folder without any is fine."""
        saved, path = self._read_key(), self._folder / LESSONS
        if saved is None:
            return
        saved = {**Augmentation().model_dump(), "teacher_undistorted": False, **saved}
        differences = [
            _IN_WORDS.get(name) or f"with {name} {saved.get(name)} (now {value})"
            for name, value in self._key.items()
            if saved.get(name) != value
        ]
        if differences:
            raise TrainingError(
                f"{self._folder} holds lessons {', '.join(differences)}. To learn from them, give what they were made "
                "with; to make others, give another --lessons."
            )
        if path.exists() and path.stat().st_size != self._num_bytes:
            raise TrainingError(f"{path} has {path.stat().st_size} bytes; expected {self._num_bytes}. Delete it.")

    def open(self, processes: Processes) -> None:
        """Make the file, at its whole size, unless it is there; the first process does. Raises TrainingError."""
        if processes.is_first:
            self.expect_same()
            try:
                self._make()
            except OSError as error:
                raise self._unwritable(error) from error
        processes.wait()
        self._bits = self._mapped().reshape(-1, self._shape[-1])

    def logits(self, places: slice, of_teacher: Callable[[], Tensor], device: torch.device) -> Tensor:
        """float32 [n, K] of the views at these places of all; what is absent, the teacher says, and it is stored.

        Rounded to float16 either way, so that a run does not depend on which of them it was. Raises TrainingError.
        """
        assert self._bits is not None, "This is a bug: the file was not opened."  # noqa: S101
        bits = np.array(self._bits[places])
        if not bits.all():
            rounded = of_teacher().clamp(-_MOST, _MOST).half().cpu().numpy()
            bits = rounded.view(np.uint16)
            bits[bits == 0] = _MINUS_ZERO
            try:
                self._write(bits.tobytes(), 2 * places.start * self._shape[-1])
            except OSError as error:
                raise self._unwritable(error) from error
        return torch.from_numpy(bits.view(np.float16)).to(device).float()

    def _make(self) -> None:
        """Raises OSError where the disk has no room for all of the file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / LESSONS).exists() or self._read_key() is None:
            (self._folder / LESSONS_KEY).unlink(missing_ok=True)
            write_atomically(self._folder / LESSONS, self._reserve)
            text = json.dumps(self._key, indent=2) + "\n"
            write_atomically(self._folder / LESSONS_KEY, lambda path: path.write_text(text, encoding="utf-8"))

    def _reserve(self, path: Path) -> None:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._num_bytes)

    def _write(self, content: bytes, offset: int) -> None:
        """Not through the mapping, where a full disk would end the process."""
        with (self._folder / LESSONS).open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def _mapped(self) -> NDArray[np.uint16]:
        """The bits of the float16 numbers."""
        return np.memmap(self._folder / LESSONS, np.uint16, "r", shape=self._shape)

    def _read_key(self) -> dict[str, Any] | None:
        """None where there is none. Raises TrainingError where it is broken."""
        path = self._folder / LESSONS_KEY
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"{path} cannot be read: {error}; expected what mixer train has written.") from error

    def _unwritable(self, error: OSError) -> TrainingError:
        return TrainingError(f"{self._folder / LESSONS} cannot be written: {write_failure(error, self._folder)}")
