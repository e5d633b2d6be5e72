"""A kind of pictures made ready: files whose right answers are known beforehand, as bodies that a client sends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.engine.runners import Outputs, Patches
from benchmarks.peers.classifier import ROUTE
from benchmarks.serving.cells import BODIES, Body, Kind
from benchmarks.serving.client import THREADS, Group, Plan
from benchmarks.serving.server import Probe
from cli.bench.ceilings import Decode
from model.spec import ModelSpec

CLEAR = 0.02  # of the logits' range: how far the best label is from the second before a picture is sent
_MOST = 4  # pictures of a label
_BOUNDARY = "bench-7d1c0f5a9e"

Run = Callable[[Sequence[Patches]], Outputs]


@dataclass(frozen=True)
class Answered:
    """A picture file and the best label of it, as the bare path finds it."""

    payload: bytes
    label: str


@dataclass(frozen=True)
class Workload:
    """Pictures of one kind by label, and the same as request bodies in files."""

    kind: Kind
    groups: tuple[tuple[Answered, ...], ...]
    plans: dict[Body, Plan]

    @property
    def files(self) -> list[bytes]:
        """All pictures."""
        return [image.payload for group in self.groups for image in group]

    @property
    def description(self) -> str:
        """In words."""
        mean_bytes = round(sum(map(len, self.files)) / len(self.files))
        return f"{len(self.files)} pictures of {mean_bytes:,} bytes on average, {len(self.groups)} different labels"

    def probe(self, body: Body) -> Probe:
        """One request."""
        plan = self.plans[body]
        return Probe(plan.path, plan.content_type, plan.groups[0].files[0].read_bytes())


def prepare(kind: Kind, files: Sequence[bytes], spec: ModelSpec, decode: Decode, run: Run, folder: Path) -> Workload:
    """Ask the bare path for the answers, keep the clear ones, and write the bodies into `folder`.

    Raises: ValueError where no picture has a clear answer.
    """
    groups = by_label(clear_answers(files, spec, decode, run))
    if not groups:
        raise ValueError(f"The workload {kind.name} has no picture that {spec.name} is sure of; expected at least one.")
    return Workload(kind, groups, {body: _plan(kind, body, groups, folder) for body in BODIES})


def clear_answers(files: Sequence[bytes], spec: ModelSpec, decode: Decode, run: Run) -> list[Answered]:
    """Those whose best label is not in doubt: no rounding inside a batch can turn it."""
    found = []
    for payload in files:
        (logits,) = run([decode(payload)]).logits
        second, best = np.sort(logits)[-2:]
        if best - second >= CLEAR * float(np.ptp(logits)) > 0:
            found.append(Answered(payload, spec.labels[int(logits.argmax())]))
    return found


def by_label(images: Sequence[Answered]) -> tuple[tuple[Answered, ...], ...]:
    """As many labels as the client has threads, those with the most pictures, and a few pictures of each."""
    labels = list(dict.fromkeys(image.label for image in images))
    groups = [tuple(image for image in images if image.label == label)[:_MOST] for label in labels]
    return tuple(sorted(groups, key=len, reverse=True)[:THREADS])


def content_type(body: Body, kind: Kind) -> str:
    """The header."""
    return f"image/{kind.file.lower()}" if body == "raw" else f"multipart/form-data; boundary={_BOUNDARY}"


def encoded(body: Body, payload: bytes) -> bytes:
    """A request body: the picture itself, or a form with it in the field `file`."""
    if body == "raw":
        return payload
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\n'
    return b"".join([head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", payload, b"\r\n--",
                     _BOUNDARY.encode(), b"--\r\n"])  # fmt: skip


def _plan(kind: Kind, body: Body, groups: Sequence[Sequence[Answered]], folder: Path) -> Plan:
    written = []
    for index, group in enumerate(groups):
        paths = [folder / f"{kind.name.replace(' ', '-')}-{body}-{index}-{number}" for number in range(len(group))]
        for path, image in zip(paths, group, strict=True):
            path.write_bytes(encoded(body, image.payload))
        written.append(Group(group[0].label, tuple(paths)))
    return Plan(ROUTE, content_type(body, kind), tuple(written))
