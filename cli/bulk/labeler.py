"""The seam between pictures and what answers for them: this machine's processors, or a running service."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cli.bulk.entries import Entry
from cli.bulk.outcomes import Outcome

if TYPE_CHECKING:
    from app.inference.answer import Asked


class Task(NamedTuple):
    """What is wanted of every picture: its embedding, or labels as `asked` for."""

    embeds: bool
    asked: "Asked"


class Labeler(Protocol):
    """Answers for pictures. `model`: what tells the one that answers from any other, as words."""

    @property
    def model(self) -> Mapping[str, str]:
        """Name, version, precision, and what else is known of it."""
        ...

    def outcomes(self, entries: Iterator[Entry]) -> AsyncGenerator[tuple[str, Outcome]]:
        """The name and the outcome of each entry, in order; a bounded number of them is under way.

        `entries` is used in one thread, not the caller's. Raises what it raises, and MixerError where nothing answers.
        """
        ...
