"""Several processes that train one network together, as torchrun starts them. Knows nothing of networks or pictures."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, distributed

from model.errors import TrainingError

_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """This process's rank among how many. With one process every method returns at once."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for every process."""
        if self.count > 1:
            distributed.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's values."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank."""
        values: list[Any] = [value]
        if self.count > 1:
            values = [None] * self.count
            distributed.all_gather_object(values, value)
        return values


def shard_slices(total: int, count: int) -> list[slice]:
    """`total` rows in `count` pieces, none cut at an odd index; the last ones may be shorter, or empty."""
    size = -(-total // (2 * count)) * 2
    return [slice(min(index * size, total), min((index + 1) * size, total)) for index in range(count)]


def device_for(wanted: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """Where this process trains: on its own GPU, if there is one. Raises TrainingError where one is wanted in vain."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device is 'cuda': torch finds no GPU; expected one, or --device cpu.")
    is_gpu = wanted != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if is_gpu else torch.device("cpu")


@contextmanager
def joined(wanted: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[tuple[Processes, torch.device]]:
    """This process's group by torchrun's variables, or this process alone, and the device to train on.

    Raises: TrainingError where a GPU is wanted and there is none.
    """
    device = device_for(wanted)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()


def is_distributed() -> bool:
    """Whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def exit_without_teardown(exit_code: int = 0) -> None:
    """End this process, if it is one of several, without the interpreter's shutdown.

    A gloo thread that is still running then would abort the process, and torchrun would report a failure.
    """
    if is_distributed():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
