"""Large graphs as ONNX Runtime has packed them for this processor, in files that all processes of a service map.

A session keeps the weights of its graph, packed, in memory of its own: eight workers, eight times. Here the first
process that opens a large graph writes what it has packed into a file, and every process maps that file, whose pages
the system keeps once. Knows nothing of bundles.
"""

import fcntl
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import onnxruntime

from app.engine.providers import Providers, is_cpu_alone
from app.engine.session import ONNX_RUNTIME, CpuThreads, Runtime, Session, one_line
from app.engine.sessions import digest_of, state_of_file
from app.errors import EngineError
from app.system.allocator import malloc_trim

LEAST_BYTES = 8 << 20  # of a graph: a smaller one is not worth a file
_ROOM_SHARE = 5  # bytes that must be free for each of the graph's: its file takes 2.0, of fp16 3.9, packed as fp32
_LEAST_WEIGHT_BYTES = 1024  # of one tensor in the file; smaller ones stay in the graph
_GRAPH, _WEIGHTS, _WRITING = "graph.onnx", "weights", ".writing"

log = logging.getLogger("mixer.engine")


def mapped_bytes(graphs: Sequence[int]) -> int:
    """Of graphs of these sizes, the bytes of those that several processes on a CPU would map.

    All that are large enough, where there is room for them and for a successor of the largest; else none.
    """
    large = [size for size in graphs if size >= LEAST_BYTES]
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return 0
    return sum(large) if free >= _ROOM_SHARE * (sum(large) + max(large, default=0)) else 0


class MappedGraphs:
    """What is opened through `runtime` maps a file in `folder`, which lasts as long as the processes do.

    A graph that is small, has weights in other files or runs elsewhere than on a CPU is opened as ever. So is one that
    cannot be written, with a warning.
    """

    def __init__(self, folder: Path, runtime: Runtime = ONNX_RUNTIME, least_bytes: int = LEAST_BYTES) -> None:
        self._folder, self._least_bytes = folder, least_bytes
        self._open_alone = runtime.open
        self.runtime = replace(runtime, open=self._open)

    def _open(self, path: Path, options: onnxruntime.SessionOptions, providers: Providers) -> Session:
        before = state_of_file(path)
        is_small = path.stat().st_size < self._least_bytes
        if is_small or not is_cpu_alone(providers) or (digest := digest_of(path)) is None:
            return self._open_alone(path, options, providers)
        try:
            return self._open_mapped(path, before, self._folder / digest.hex(), options, providers)
        except Exception as error:  # noqa: BLE001 -- whatever keeps it from being shared, it can be opened
            session = self._open_alone(path, options, providers)
            log.warning("%s is in the memory of each worker, not shared: %s", path, one_line(error))
            return session

    def _open_mapped(
        self,
        path: Path,
        before: tuple[int, ...],
        mapped: Path,
        options: onnxruntime.SessionOptions,
        providers: Providers,
    ) -> Session:
        with _locked(self._folder / _WRITING):
            if not (mapped / _GRAPH).is_file():
                self._remove_unused()
                self._write(path, before, mapped, providers)
            in_use = _held(mapped)
            self._remove_unused()  # also what was let go meanwhile
        level = options.graph_optimization_level
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # that is done
        try:
            session = self._open_alone(mapped / _GRAPH, options, providers)
        except BaseException:
            os.close(in_use)
            raise
        finally:
            options.graph_optimization_level = level
        weakref.finalize(session, self._let_go, mapped, in_use).atexit = False
        return session

    def _let_go(self, mapped: Path, in_use: int) -> None:
        """Of a session that is gone. The last one's file goes with it; what somebody looks at just now stays."""
        with suppress(OSError), _locked(self._folder / _WRITING, fcntl.LOCK_EX | fcntl.LOCK_NB):
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mapped, ignore_errors=True)
        os.close(in_use)

    def _write(self, path: Path, before: tuple[int, ...], mapped: Path, providers: Providers) -> None:
        """Raises EngineError where there is too little room, or where the graph is no longer what it was `before`.

        OSError, and whatever ONNX Runtime raises.
        """
        free, wanted = shutil.disk_usage(self._folder).free, _ROOM_SHARE * path.stat().st_size
        if free < wanted:
            raise EngineError(
                f"{self._folder.parent} has {free >> 20} MiB free; expected {wanted >> 20} MiB. TMPDIR names another."
            )
        new = mapped.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        options = CpuThreads().session_options()
        options.optimized_model_filepath = str(new / _GRAPH)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        least = str(_LEAST_WEIGHT_BYTES)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", least)
        options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        try:
            self._open_alone(path, options, providers)
            if state_of_file(path) != before:
                raise EngineError(f"{path} was replaced while it was packed; expected it to stay.")
            new.replace(mapped)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            malloc_trim()

    def _remove_unused(self) -> None:
        """Those that no session has open: the last one was killed, or ended while another graph was packed."""
        for folder in self._folder.iterdir():
            if folder.is_dir():
                with suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB, os.O_RDONLY):
                    shutil.rmtree(folder, ignore_errors=True)


def _held(folder: Path) -> int:
    """A descriptor that tells, as long as it is open, that the folder is in use. Waits for nobody. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(path: Path, how: int = fcntl.LOCK_EX, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[None]:
    """Raises OSError, also where another has it locked and `how` says not to wait."""
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
