"""Columns of pictures in, columns of rows out: for engines that call code on batches, as Ray Data, Spark and Daft do.

Rows are those that `mixer classify` and `mixer embed` write, in the order of the batch. Knows no engine, and nothing of
where batches come from or go.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import BadRequest
from app.server.topology import planned
from app.settings import load
from cli.bulk.entries import Entry, LocalFile, Ready, RemoteFile, too_many_bytes
from cli.bulk.formats import Row, arrow_table
from cli.bulk.labeler import Task
from cli.bulk.local_labeler import batches
from cli.bulk.local_model import open_local
from cli.bulk.outcomes import Failure, Outcome, failure_of
from cli.bulk.stores import is_url, require
from model.data.pillow_warnings import silenced

if TYPE_CHECKING:
    from app.inference.answer import Asked

_PATH, _BYTES = "path", "bytes"
_READ_AHEAD = 1  # threads beyond those that fill the processors: they read meanwhile
_NO_BYTES = Failure(BadRequest.code, "The row has no bytes; expected a picture in it.")


class Classify:
    """A bundle that answers for batches of pictures: made once in each process or actor of an engine, then called.

    bundle: its folder on the machine that calls; None: MIXER_BUNDLE. cpus: processors that the engine has set aside
    for it; unless MIXER_ variables say otherwise, so many runs side by side, of one thread each. embeddings: rows of
    `mixer embed`. top_k, threshold and coverage are those of `mixer classify`.

    Raises: StartError, BadSettings.
    """

    def __init__(
        self,
        bundle: str | Path | None = None,
        *,
        cpus: int = 1,
        embeddings: bool = False,
        top_k: int | None = None,
        threshold: float | None = None,
        coverage: float | None = None,
    ) -> None:
        require("pyarrow", "Classify")
        settings = load()
        update = {"workers": 1, "bundle": Path(bundle or settings.bundle)}
        settings = planned(settings.model_copy(update=update), cpus)
        asked: Asked = {} if embeddings else {"top_k": top_k, "threshold": threshold, "set": coverage}
        model, self.model = open_local(settings, Task(embeddings, asked), processes=1)
        self._answer, self.embeds, self._most = model.outcomes, embeddings, settings.max_image_bytes
        self._most_parts = threads = settings.decode_threads + _READ_AHEAD
        self._threads = ThreadPoolExecutor(threads, "classify")

    def __call__(self, batch: Any) -> Any:
        """A pyarrow.Table with a row for each of `batch`, in order. No picture raises: its row has what is wrong.

        batch: a pyarrow.Table or RecordBatch, or a dict of columns: NumPy arrays or lists. `path`: names the rows.
        `bytes`: the pictures, whole files; without that column each is read from its path, which is a file's or a URL.
        """
        names = [str(name) for name in _listed(batch[_PATH])]
        given = _BYTES in (batch if isinstance(batch, Mapping) else batch.schema.names)
        contents = map(self._payload, _listed(batch[_BYTES])) if given else map(_place, names)
        return arrow_table(list(self.rows(map(Entry, names, contents))), embeds=self.embeds)

    def rows(self, entries: Iterator[Entry]) -> Iterator[Row]:
        """The row of each, in order; a bounded number is under way, and some are read while others are computed."""
        under_way: deque[tuple[list[Ready], Future[list[Outcome]]]] = deque()
        with silenced():
            for part in batches(entries):
                under_way.append((part, self._threads.submit(self._answer, part)))
                if len(under_way) > self._most_parts:
                    yield from _answered(*under_way.popleft())
            for one in under_way:
                yield from _answered(*one)

    def _payload(self, payload: bytes | None) -> bytes | Failure:
        if payload is None:
            return _NO_BYTES
        return payload if len(payload) <= self._most else failure_of(too_many_bytes(len(payload), self._most))


@cache
def shared(bundle: str | Path | None = None, *, cpus: int = 1, embeddings: bool = False) -> Classify:
    """The same one for all that ask in this process, as an engine does that calls functions and keeps no objects."""
    return Classify(bundle, cpus=cpus, embeddings=embeddings)


def _answered(part: list[Ready], answer: "Future[list[Outcome]]") -> Iterator[Row]:
    return zip((entry.name for entry in part), answer.result(), strict=True)


def _place(name: str) -> LocalFile | RemoteFile:
    return RemoteFile(name) if is_url(name) else LocalFile(name)


def _listed(column: Any) -> list[Any]:
    """The values of an Arrow or NumPy column, or of a list, as Python has them."""
    for read in ("to_pylist", "tolist"):
        if hasattr(column, read):
            return list(getattr(column, read)())
    return list(column)
