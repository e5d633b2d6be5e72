"""W3C's trace context in the headers of a request. Knows nothing of spans.

https://www.w3.org/TR/trace-context/: what is not valid is ignored, as if nothing had been sent.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
_VERSION_0 = b"00"
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_MOST_MEMBERS, _MOST_STATE_BYTES = 32, 512  # a longer tracestate may be cut by whole members
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"  # of level 1, as the SDK
_MEMBER = re.compile(rf"{_KEY}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


class Parent(NamedTuple):
    """The span that a request comes from. state: its members of tracestate, key=value each, in their order."""

    trace_id: int
    span_id: int
    is_sampled: bool
    state: tuple[str, ...] = ()


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> Parent | None:
    """What the headers say, their names in lower case; None where that is nothing, or not valid."""
    said: bytes | None = None
    states: list[bytes] = []
    for name, value in headers:
        if name == TRACEPARENT:
            if said is not None:
                return None
            said = value
        elif name == TRACESTATE:
            states.append(value)
    if said is None:
        return None
    found = _PARENT.fullmatch(said.strip(b" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if more is not None and version == _VERSION_0:
        return None
    state = _state_of(b",".join(states).decode("latin-1")) if states else ()
    return Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED), state)


def _state_of(said: str) -> tuple[str, ...]:
    """The members, each key once; none where one of them is not valid. What is too much is left out at the end."""
    members = [member for one in said.split(",") if (member := one.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ()
    kept: list[str] = []
    size = -1
    for member in members[:_MOST_MEMBERS]:
        size += len(member) + 1
        if size > _MOST_STATE_BYTES:
            break
        kept.append(member)
    return tuple(kept)
