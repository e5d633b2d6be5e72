"""What may happen to a true label on a disk that hangs or refuses."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.collection.collection import Collection, UnknownRequest
from app.collection.folder import Folder, FolderLimits, write_file
from app.collection.rules import Rules
from app.errors import DeadlinePassed, NotReady
from app.telemetry.metrics import Metrics
from tests.app.collection.test_folder import record

PATIENCE_S = 30.0


@contextmanager
def collection_in(path: Path, write: Callable[[Path, bytes], None]) -> Iterator[Collection]:
    """One whose folder has the picture of the request abc, and from then on writes as told."""
    limits = FolderLimits(100, 1 << 20, 0)
    folder = Folder(path, limits)
    folder.keep(record(folder), b"picture")
    collection = Collection(Rules(share=1), Folder(path, limits, write=write), Metrics())
    yield collection
    collection.close()


async def test_a_label_that_is_not_written_in_time_is_late(tmp_path: Path) -> None:
    go = threading.Event()

    def hang(_path: Path, _content: bytes) -> None:
        go.wait(PATIENCE_S)

    with collection_in(tmp_path, hang) as collection:
        with pytest.raises(DeadlinePassed, match=r"within 0\.01 s"):
            await collection.correct("abc", 0, "blue", 0.01)
        go.set()


async def test_a_label_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    def full(_path: Path, _content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with collection_in(tmp_path, full) as collection, pytest.raises(NotReady, match="No space left on device"):
        await collection.correct("abc", 0, "blue", PATIENCE_S)


async def test_what_is_not_kept_is_unknown(tmp_path: Path) -> None:
    with collection_in(tmp_path, write_file) as collection, pytest.raises(UnknownRequest, match="abc-1"):
        await collection.correct("abc", 1, "blue", PATIENCE_S)
