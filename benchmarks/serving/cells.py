"""What is measured: models, the pictures they get, and how those are sent. Knows nothing of servers or clients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

Body = Literal["raw", "multipart"]

BODIES: tuple[Body, ...] = ("raw", "multipart")
CONNECTIONS = (1, 8, 32, 128)


@dataclass(frozen=True)
class Kind:
    """Pictures of one size for one model. `source`: drawn as scenes, or varied from the pictures in examples/."""

    name: str
    model: str
    width: int
    height: int
    file: Literal["PNG", "JPEG"]
    source: Literal["scenes", "examples"] = "scenes"
    pool: int = 24  # how many are made; those with the clearest answers are sent


@dataclass(frozen=True, order=True)
class Cell:
    """One measurement of one server: a kind of picture, as raw body or multipart, over so many connections."""

    workload: str
    body: Body
    connections: int


def cells(workloads: Sequence[str], bodies: Sequence[Body], connections: Sequence[int]) -> Iterator[Cell]:
    """Every combination, few connections first."""
    return (Cell(*combination) for combination in product(workloads, bodies, connections))
