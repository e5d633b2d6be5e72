"""What is fuzzed has this shape: a target knows its inputs and what must come of them, not who fuzzes it how."""

import random
from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, Protocol

ACCEPTED = "accepted"
OUTCOMES = (
    ACCEPTED,
    *("bad_picture", "bad_request", "bad_parameter", "too_many_bytes", "too_many_pixels", "unsupported_format"),
    *("deadline_passed", "client_gone"),
)


class Finding(BaseException):
    """What must not happen has happened. No `except Exception` on its way catches it."""


@dataclass(frozen=True)
class Checked:
    """Of what kind an input was, and what came of it: one of OUTCOMES."""

    kind: str
    outcome: str


class Cost(NamedTuple):
    """Processor time in seconds, and memory in bytes at the worst moment."""

    cpu_s: float = 0.0
    peak_bytes: int = 0

    def or_more(self, other: "Cost") -> "Cost":
        return Cost(max(self.cpu_s, other.cpu_s), max(self.peak_bytes, other.peak_bytes))


class Target(Protocol):
    """A module's worth of fuzzing; one instance serves a whole process."""

    kinds: tuple[str, ...]
    most_bytes: int

    def seeds(self) -> dict[str, bytes]:
        """Whole inputs by name."""
        ...

    def mutated(self, payload: bytes, partner: bytes, rng: random.Random) -> bytes:
        """Another input."""
        ...

    def check(self, payload: bytes) -> Checked:
        """Raises: Finding, or anything else that is one."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def target_named(name: str) -> Target:
    """The target of a module `name` of this package, or of any other by its whole name."""
    target: Target = import_module(name if "." in name else f"tests.fuzzing.{name}").Fuzzed()
    return target
