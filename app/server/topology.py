"""How many processes, instances and threads: what the settings leave open, filled in for this machine."""

import logging
import os
from pathlib import Path

import onnxruntime

from app.engine.engine import find_graphs
from app.engine.mapped_graphs import mapped_bytes
from app.engine.precision import first_choice
from app.engine.providers import PROVIDERS
from app.errors import EngineError
from app.serving.bundles import find_bundles
from app.settings import Settings
from app.shadow.second import is_served
from app.system.cpu_limits import instances_and_threads, memory_bytes, usable_cpus

_MOST_WORKERS = 16
_WORKER_BYTES = 107_000_000  # beside its models, and what all of them together hold of bodies and decode in
_SESSION_SHARE = 2  # bytes that a model takes for each of its graph's: measured, 2.0 in int8 and 1.2 in fp32
_MAPPED_SHARE = 4  # that a graph which all map takes once for each of its: the file, and whoever packs it, for a moment
_MODEL_BYTES = 300_000  # beside its session: threads, labels, metrics

log = logging.getLogger("mixer.plan")


def planned(settings: Settings, cpus: int | None = None) -> Settings:
    """The settings with a number for workers, and for the instances and threads of each.

    cpus: those that it may keep busy, where something else shares them out; None: all that this process may use.

    On a CPU, several processes of one instance answer more images than one process of several: Python runs in one
    thread at a time. A GPU is kept busy by one process, which is the only one to hold the model there.
    """
    on_gpu = may_run_on_gpu(settings.provider)
    cpus = cpus or usable_cpus()
    workers = settings.workers or (1 if on_gpu or not hasattr(os, "fork") else _workers(settings, cpus))
    share = max(1, cpus // workers)
    decode_threads = settings.decode_threads or share
    if on_gpu:  # what runs there needs no CPU, and what falls back chooses for itself
        return settings.model_copy(update={"workers": workers, "decode_threads": decode_threads})
    instances, threads = instances_and_threads(share, settings.instances, settings.intra_op_threads)
    chosen = {"workers": workers, "decode_threads": decode_threads, "instances": instances, "intra_op_threads": threads}
    return settings.model_copy(update=chosen)


def _workers(settings: Settings, cpus: int) -> int:
    """As many workers as fill the CPUs with their instances and threads, and fit the container's memory at worst."""
    each = max(1, settings.instances) * max(1, settings.intra_op_threads)
    wanted = max(1, min(_MOST_WORKERS, cpus // each))
    memory = memory_bytes()
    return wanted if memory is None else min(wanted, _fitting(settings, memory, wanted))


def _fitting(settings: Settings, memory: int, wanted: int) -> int:
    """How many workers fit `memory` bytes, 1 at least; a line in the log where that is less than `wanted`."""
    pictures = settings.decode_memory_bytes + settings.upload_memory_bytes
    graphs = _graph_bytes(settings)
    mapped = mapped_bytes(graphs) if wanted > 1 else 0
    alone = _WORKER_BYTES + sum(_SESSION_SHARE * size + _MODEL_BYTES for size in graphs)
    each, together = alone - _SESSION_SHARE * mapped, pictures + _MAPPED_SHARE * mapped
    words = "pictures and the graphs that all share" if mapped else "pictures"
    fitting = (memory - together) // each
    if fitting <= 1:  # one shares with nobody
        each, together, words = alone, pictures, "pictures"
        fitting = (memory - together) // each
    if fitting < 1:
        log.warning(
            "memory is limited to %d MB; expected %d MB for one worker (models: %d) and %d MB for %s",
            memory // 10**6, -(-each // 10**6), len(graphs), -(-together // 10**6), words,
        )  # fmt: skip
    elif fitting < wanted:
        log.info(
            "memory is limited to %d MB: room for %d of %d workers of %d MB each (models: %d), and %d MB for %s",
            memory // 10**6, fitting, wanted, -(-each // 10**6), len(graphs), -(-together // 10**6), words,
        )  # fmt: skip
    return max(1, min(fitting, wanted))


def _graph_bytes(settings: Settings) -> list[int]:
    """The bytes of the graph that runs, for each model that is opened; none where the start will say what is wrong."""
    try:
        bundles = list(find_bundles(settings.bundle).values())
        if settings.shadow is not None and not is_served(settings.shadow, settings.bundle):
            bundles.append(settings.shadow)
        return [_size_of(bundle, settings) for bundle in bundles]
    except (EngineError, OSError):
        return []


def _size_of(bundle: Path, settings: Settings) -> int:
    return first_choice(find_graphs(bundle), settings.precision, "cpu").stat().st_size


def may_run_on_gpu(provider: str) -> bool:
    """Whether a provider, as the settings name it, may turn out to be a GPU's."""
    return provider in ("cuda", "tensorrt") or (
        provider == "auto" and PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    )
