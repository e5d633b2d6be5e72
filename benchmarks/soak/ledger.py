"""What became of every request, and whether that is good enough. Knows nothing of how they were sent."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak.usage import Usage

RIGHT, WRONG, LOST, LEFT = "right", "wrong", "lost", "hung up"
_MOST_EXAMPLES = 20


@dataclass(frozen=True)
class Weighing:
    """One service process group: weighed after its first requests, and again at its end."""

    instance: str
    requests: int  # between the two
    before: Usage
    after: Usage


@dataclass
class Ledger:
    """Counts. `detours`: what happened to requests that had their answer in the end, or never were accepted.

    `are_detours_fine`: false where every client must be served at its first try. `sent_on`: requests for which nginx
    asked more than one service, by what those before the last said.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    detours: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    weighings: list[Weighing] = field(default_factory=list)
    replaced_s: list[float] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    reloads_s: list[float] = field(default_factory=list)
    sent_on: Counter[str] = field(default_factory=Counter)
    are_detours_fine: bool = True
    examples: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    client_s: float = 0.0  # of the processor

    def note(self, kind: str, outcome: str, words: str = "") -> None:
        """A request has its outcome. `words`: why that is wrong, or lost."""
        self.outcomes[kind, outcome] += 1
        if words and len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{kind}, {outcome}: {words}")

    def count(self, outcome: str) -> int:
        """Of all kinds."""
        return sum(count for (_, found), count in self.outcomes.items() if found == outcome)

    @property
    def requests(self) -> int:
        """Sent, each counted once however often it was tried."""
        return sum(self.outcomes.values())

    def kinds(self) -> list[str]:
        """Those that were sent."""
        return list(dict.fromkeys(kind for kind, _ in self.outcomes))

    def verdict(self, growth: float) -> list[str]:
        """Everything that is not good enough. `growth`: the most that anything may grow, as a fraction."""
        found = [f"{self.count(outcome)} {outcome}" for outcome in (WRONG, LOST) if self.count(outcome)]
        if not self.are_detours_fine:
            found += [f"{count} {name}" for name, count in sorted(self.detours.items())]
        for one in self.weighings:
            found += [
                f"{one.instance}: {name} grew by {grown:.1%}, more than {growth:.0%}"
                for name, grown in one.after.growth(one.before).items()
                if grown > growth
            ]
        return found + self.failures

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "requests": self.requests,
            "seconds": self.seconds,
            "client_s": self.client_s,
            "outcomes": {kind: self._of(kind) for kind in sorted(self.kinds())},
            "detours": dict(self.detours),
            "faults": dict(self.faults),
            "replaced_s": self.replaced_s,
            "restarts_s": self.restarts_s,
            "reloads_s": self.reloads_s,
            "sent_on": dict(self.sent_on),
            "weighings": [
                {
                    "instance": one.instance,
                    "requests": one.requests,
                    "before": vars(one.before),
                    "after": vars(one.after),
                    "growth": one.after.growth(one.before),
                }
                for one in self.weighings
            ],
            "examples": self.examples,
            "failures": self.failures,
        }

    def _of(self, kind: str) -> dict[str, int]:
        return {outcome: count for (found, outcome), count in self.outcomes.items() if found == kind}


def most(figures: Iterable[float]) -> float:
    """The largest, 0 where there are none."""
    return max(figures, default=0.0)
