"""What may happen to a true label, and to pictures, on a disk that hangs or refuses."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.collection.collection import REST_S, Collection, UnknownRequest
from app.collection.folder import Folder, FolderLimits, write_file
from app.collection.rules import Rules
from app.errors import DeadlinePassed, NotReady
from app.inference.classifier import Classified
from app.inference.scores import scores_of
from app.telemetry.metrics import Metrics
from tests.app.collection.test_folder import record
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import samples_of

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


SPEC = color_spec()
CLASSIFIER: Any = SimpleNamespace(spec=SPEC, named={"name": "colours", "version": "7", "precision": "fp32"})
(SCORES,) = scores_of((np.float32([[10, 0, 0]]), None), 1.0)
ANSWER = Classified([{"label": "red", "index": 0, "probability": 1.0}], {}, SCORES, {}, 1)


def outcomes_of(metrics: Metrics) -> dict[str, float]:
    samples = samples_of(metrics.render().decode())
    return {name.split('"')[1]: count for name, count in samples.items() if "collected_total" in name and count}


async def test_after_a_picture_that_the_disk_refused_others_are_not_tried_for_a_second(tmp_path: Path) -> None:
    now, is_full, tried = 100.0, True, list[str]()

    def write(path: Path, content: bytes) -> None:
        tried.append(path.name)
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_file(path, content)

    folder, metrics = Folder(tmp_path, FolderLimits(100, 1 << 20, 0), write=write), Metrics()
    collection = Collection(Rules(share=1), folder, metrics, clock=lambda: now)

    async def offer(request_id: str) -> None:
        collection.offer(request_id, CLASSIFIER, image(RED), ANSWER)
        with pytest.raises(UnknownRequest):  # which is told when all before it is done
            await collection.correct("nobody", 0, "blue", PATIENCE_S)

    await offer("a")
    await offer("b")
    assert (tried, outcomes_of(metrics)) == (["a-0.png"], {"failed": 1, "dropped_failing": 1})
    now += REST_S
    await offer("c")
    assert (tried[1:], outcomes_of(metrics)) == (["c-0.png"], {"failed": 2, "dropped_failing": 1})
    now, is_full = now + REST_S, False
    await offer("d")
    assert outcomes_of(metrics) == {"failed": 2, "dropped_failing": 1, "kept": 1}
    collection.close()


async def test_labels_are_tried_while_pictures_are_not(tmp_path: Path) -> None:
    def write(path: Path, content: bytes) -> None:
        if path.suffix == ".png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_file(path, content)

    with collection_in(tmp_path, write) as collection:
        collection.offer("other", CLASSIFIER, image(RED), ANSWER)
        assert (await collection.correct("abc", 0, "blue", PATIENCE_S)).is_first
