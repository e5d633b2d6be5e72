"""How many processes, lanes and threads: what the settings leave open, filled in for this machine."""

import os

import onnxruntime

from app.cgroups import memory_bytes
from app.cpus import lanes_and_threads, usable_cpus
from app.providers import PROVIDERS
from app.settings import Settings

_MOST_WORKERS = 16
_WORKER_BYTES = 110_000_000  # beside what all of them together hold of bodies and decode in


def planned(settings: Settings) -> Settings:
    """The settings with a number for workers, and for the lanes and threads of each.

    On a CPU, several processes of one lane answer more pictures than one process of several lanes: Python runs in one
    thread at a time. A GPU is kept busy by one process, which is the only one to hold the model there.
    """
    on_gpu = may_run_on_gpu(settings.provider)
    cpus = usable_cpus()
    workers = settings.workers or (1 if on_gpu or not hasattr(os, "fork") else _workers(settings, cpus))
    share = max(1, cpus // workers)
    decode_threads = settings.decode_threads or share
    if on_gpu:  # what runs there needs no CPU, and what falls back chooses for itself
        return settings.model_copy(update={"workers": workers, "decode_threads": decode_threads})
    lanes, threads = lanes_and_threads(share, settings.lanes, settings.intra_op_threads)
    chosen = {"workers": workers, "decode_threads": decode_threads, "lanes": lanes, "intra_op_threads": threads}
    return settings.model_copy(update=chosen)


def _workers(settings: Settings, cpus: int) -> int:
    """So many that their lanes and threads fill the CPUs, and all of them fit the container's memory at their worst."""
    each = max(1, settings.lanes) * max(1, settings.intra_op_threads)
    memory = memory_bytes()
    shared = settings.decode_memory_bytes + settings.upload_memory_bytes
    fitting = _MOST_WORKERS if memory is None else (memory - shared) // _WORKER_BYTES
    return max(1, min(_MOST_WORKERS, cpus // each, fitting))


def may_run_on_gpu(provider: str) -> bool:
    """Whether a provider, as the settings name it, may turn out to be a GPU's."""
    return provider in ("cuda", "tensorrt") or (
        provider == "auto" and PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    )
