"""The kinds of traffic: what a client sends, how it behaves, and what it expects. Knows nothing of sockets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import Literal

from benchmarks.serving.workloads import encoded
from benchmarks.soak.expectations import Expectation, Oracle, contains, problem
from benchmarks.soak.images import Images

Behaviour = Literal["waits", "leaves before", "leaves during", "leaves after", "resets during", "resets after"]

MARK = b"SOAK-REQUEST-ID"  # stands in a head where every request has its own
_BOUNDARY = b"bench-7d1c0f5a9e"  # of `encoded`
_FORM = b"multipart/form-data; boundary=" + _BOUNDARY
_TOO_LARGE_BYTES = 1 << 30
_SLOW_PIECES, _SLOW_PAUSE_S = 5, 0.04
_VARIANTS = 24  # of a batch


@dataclass(frozen=True)
class Errand:
    """One or more requests in a row. `pieces` are sent with a pause between them; the first has the heads.

    `expectations`: one for each answer, in order. `hangs_up`: the connection is of no use afterwards.
    """

    kind: str
    pieces: tuple[bytes, ...]
    expectations: tuple[Expectation, ...] = ()
    behaviour: Behaviour = "waits"
    pause_s: float = 0.0
    hangs_up: bool = False


@dataclass(frozen=True)
class Traffic:
    """Errands of every kind, the common ones more often."""

    errands: tuple[tuple[Errand, ...], ...]
    weights: tuple[float, ...]

    @property
    def kinds(self) -> list[str]:
        """All there are."""
        return [group[0].kind for group in self.errands]

    def draw(self, rng: Random) -> Errand:
        """One of a kind that chance picks."""
        (group,) = rng.choices(self.errands, cum_weights=list(accumulate(self.weights)))
        return rng.choice(group)


def mixed(images: Images, oracle: Oracle, rng: Random, *, behind_proxy: bool = False) -> Traffic:
    """Everything that clients do, in shares that leave most requests small, right and ordinary.

    `behind_proxy`: without what is for operators.
    """
    kinds = {
        "small, raw": (420, _each(images.small, oracle, "raw")),
        "small, multipart": (150, _each(images.small, oracle, "multipart")),
        "top_k": (40, _with_top_k(images, oracle, rng)),
        "every format, raw": (90, _each(images.formats, oracle, "raw")),
        "every format, multipart": (30, _each(images.formats, oracle, "multipart")),
        "photograph": (30, _each(images.photographs, oracle, "raw")),
        "large picture": (2, _each(images.large, oracle, "multipart")),
        "batch": (40, _batches(images, oracle, rng, spoilt=False)),
        "batch with bad ones": (20, _batches(images, oracle, rng, spoilt=True)),
        "bad picture": (60, [*_each(images.bad, oracle, "raw"), *_each(images.bad, oracle, "multipart")]),
        "bad request": (35, _bad_requests(images.small[0], oracle)),
        "too large": (3, [_too_large()]),
        "chunked": (10, [_chunked(payload, oracle) for payload in (*images.small[:8], *images.photographs)]),
        "slow body": (5, [_slow(payload, oracle) for payload in (*images.small[:8], *images.photographs)]),
        "pipelined": (10, _pipelined(images.small, oracle)),
        "metrics, health, model": (20, list(_watching(oracle))[behind_proxy:]),
        "hang-up": (35, _hang_ups(images)),
    }
    return Traffic(
        tuple(tuple(_named(kind, group)) for kind, (_, group) in kinds.items()),
        tuple(weight for weight, _ in kinds.values()),
    )


def request(
    body: bytes, path: bytes = b"/classify", content_type: bytes = b"image/png", method: bytes = b"POST"
) -> bytes:
    """A whole request, with a mark for its id."""
    head = (
        method + b" " + path + b" HTTP/1.1\r\nHost: service\r\nX-Request-ID: " + MARK + b"\r\n"
        b"Content-Type: " + content_type + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    )  # fmt: skip
    return head + body


def get(path: bytes, method: bytes = b"GET") -> bytes:
    """A request without a body."""
    return method + b" " + path + b" HTTP/1.1\r\nHost: service\r\nX-Request-ID: " + MARK + b"\r\n\r\n"


def _each(files: Sequence[bytes], oracle: Oracle, body: Literal["raw", "multipart"]) -> list[Errand]:
    content_type = b"application/octet-stream" if body == "raw" else _FORM
    return [_errand(request(encoded(body, one), content_type=content_type), oracle.one(one)) for one in files]


def _with_top_k(images: Images, oracle: Oracle, rng: Random) -> Iterator[Errand]:
    for top_k in range(1, min(10, oracle.spec.num_classes) + 1):
        payload = rng.choice(images.small)
        yield _errand(request(payload, b"/classify?top_k=%d" % top_k), oracle.one(payload, top_k))


def _batches(images: Images, oracle: Oracle, rng: Random, *, spoilt: bool) -> Iterator[Errand]:
    for number in range(_VARIANTS):
        files = rng.choices((*images.small, *images.formats), k=1 + number % 8)
        files += rng.choices(images.bad, k=2 if spoilt else 0)
        rng.shuffle(files)
        named = [(f"{index}.picture", payload) for index, payload in enumerate(files)]
        yield _errand(request(_form(named), b"/classify/batch", _FORM), oracle.many(named))


def _form(files: Sequence[tuple[str, bytes]], field: bytes = b"file", end: bytes = b"--") -> bytes:
    parts = [
        b"--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n\r\n%s\r\n"
        % (_BOUNDARY, field, name.encode(), payload)
        for name, payload in files
    ]  # fmt: skip
    return b"".join(parts) + b"--" + _BOUNDARY + end + b"\r\n"


def _bad_requests(payload: bytes, oracle: Oracle) -> Iterator[Errand]:
    """Wrong paths, methods, parameters, types and forms."""
    one = [("a", payload)]
    impossible = b"/classify?top_k=%d" % (oracle.spec.num_classes + 1)
    for content, status, code in (
        (get(b"/nothing-here"), 404, "not_found"),
        (get(b"/classify/nothing"), 404, "not_found"),
        (request(payload, b"/nothing-here"), 404, "not_found"),
        (get(b"/classify"), 405, "method_not_allowed"),
        (get(b"/model", b"DELETE"), 405, "method_not_allowed"),
        (request(payload, b"/classify?top_k=0"), 422, "bad_parameter"),
        (request(payload, b"/classify?top_k=many"), 422, "bad_parameter"),
        (request(payload, impossible), 422, "bad_parameter"),
        (request(payload, content_type=b"text/plain"), 415, "unsupported_format"),
        (request(payload, b"/classify/batch"), 415, "unsupported_format"),
        (request(_form(one), content_type=b"multipart/form-data"), 400, "bad_request"),
        (request(_form(one, b"picture"), content_type=_FORM), 422, "bad_parameter"),
        (request(_form([]), content_type=_FORM), 422, "bad_parameter"),
        (request(_form(one, end=b""), content_type=_FORM), 400, "bad_request"),
    ):
        yield _errand(content, problem(status, code))


def _too_large() -> Errand:
    """The answer comes before the body, which therefore never does."""
    content = request(b"").replace(b"Content-Length: 0", b"Content-Length: %d" % _TOO_LARGE_BYTES)
    return Errand("", (content,), (problem(413, "too_many_bytes"),), hangs_up=True)


def _chunked(payload: bytes, oracle: Oracle) -> Errand:
    """A body whose length nobody declares."""
    third = len(payload) // 3 + 1
    parts = [payload[at : at + third] for at in range(0, len(payload), third)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    head = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return _errand(head + body, oracle.one(payload))


def _slow(payload: bytes, oracle: Oracle) -> Errand:
    """A body that takes its time."""
    content = request(payload)
    start = content.index(b"\r\n\r\n") + 4
    step = len(payload) // _SLOW_PIECES + 1
    body = tuple(content[at : at + step] for at in range(start, len(content), step))
    return Errand("", (content[:start], *body), (oracle.one(payload),), pause_s=_SLOW_PAUSE_S)


def _pipelined(files: Sequence[bytes], oracle: Oracle) -> Iterator[Errand]:
    """Three requests at once on one connection: answers come in order."""
    for first, second, third in zip(files, files[1:], files[2:], strict=False):
        trio = (first, second, third)
        content = b"".join(request(payload) for payload in trio)
        yield Errand("", (content,), tuple(oracle.one(payload) for payload in trio))


def _watching(oracle: Oracle) -> Iterator[Errand]:
    """Operators' own first."""
    yield _errand(get(b"/metrics"), contains(b"mixer_engine_info"))
    yield _errand(get(b"/health/live"), contains(b"{"))
    yield _errand(get(b"/health/ready"), contains(b'"precision"'))
    yield _errand(get(b"/model"), contains(oracle.spec.name.encode(), oracle.model["precision"].encode()))


def _hang_ups(images: Images) -> Iterator[Errand]:
    """Clients that do not stay for the answer."""
    for payload in (*images.small[:4], *images.photographs[:2]):
        content = request(payload)
        cut = len(content) - len(payload) // 2
        yield Errand("", (), behaviour="leaves before")
        yield Errand("", (content[: content.index(b"\r\n\r\n") + 4],), behaviour="leaves during")
        yield Errand("", (content[:cut],), behaviour="leaves during")
        yield Errand("", (content[:cut],), behaviour="resets during")
        yield Errand("", (content,), behaviour="leaves after")
        yield Errand("", (content,), behaviour="resets after")


def _errand(content: bytes, expectation: Expectation) -> Errand:
    return Errand("", (content,), (expectation,))


def _named(kind: str, errands: Iterable[Errand]) -> Iterator[Errand]:
    return (replace(one, kind=kind) for one in errands)
