"""How requests follow each other on a connection, and where they end. Knows nothing of the connection itself.

Refuses what others may take for another request than the parser does, and floods of what is no body.
"""

import re

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import BadRequest, ServiceError, UnknownCoding

Headers = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 64 << 10  # of a request line with its headers, of trailers, of chunk extensions
_MOST_AT_ONCE = 1000  # requests that arrive in one piece
_FREE_CHUNKS, _BYTES_A_CHUNK = 1000, 16  # of a body: so many chunks, and one more for each so many bytes
_SHOWN_BYTES = 64  # of a transfer coding
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*[ \t]*", re.ASCII)


class Fault(Exception):
    """What a client may not send. Raised from within the parser, which stops there. A flood is read no further."""

    def __init__(self, error: ServiceError, *, is_flood: bool = False) -> None:
        super().__init__(error.detail)
        self.error, self.is_flood = error, is_flood


class Framing:
    """Counts what arrives on one connection. Each of its methods tells of one event of the parser.

    Raises: Fault.
    """

    def __init__(self) -> None:
        self._bytes_without_progress = self._at_once = self._chunks = self._body_bytes = 0

    def arrived(self, count: int) -> None:
        """`count` bytes, in one piece."""
        self._bytes_without_progress += count
        self._at_once = 0

    def is_head_too_large(self) -> bool:
        """Whether more than MAX_HEAD_BYTES have arrived that are no body."""
        return self._bytes_without_progress > MAX_HEAD_BYTES

    def request_begins(self, version: str, headers: Headers) -> None:
        """The head of a request is complete."""
        self._at_once += 1
        if self._at_once > _MOST_AT_ONCE:
            detail = f"More than {_MOST_AT_ONCE} requests came at once, the most expected."
            raise Fault(BadRequest(detail), is_flood=True)
        _expect_sound_head(version, headers)
        self._bytes_without_progress = self._chunks = self._body_bytes = 0

    def body_goes_on(self, count: int) -> None:
        """`count` bytes of the body."""
        self._bytes_without_progress = 0
        self._body_bytes += count

    def chunk_begins(self) -> None:
        """The next chunk of a chunked body begins."""
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + self._body_bytes // _BYTES_A_CHUNK:
            detail = (
                f"The body has {self._chunks} chunks for {self._body_bytes} bytes; "
                f"expected at most {_FREE_CHUNKS}, and one more for each {_BYTES_A_CHUNK} bytes."
            )
            raise Fault(BadRequest(detail), is_flood=True)

    def request_ends(self) -> None:
        """The request has arrived completely."""
        self._bytes_without_progress = 0


def feed_without_offers(protocol: HttpToolsProtocol, data: bytes) -> None:
    """Parse it. An offer of another protocol is ignored (RFC 9110, 7.8).

    The parser takes the body behind a head with an offer for that other protocol. So another one is given the head
    once more, without the offer, and what follows after that.
    """
    rest: bytes | memoryview = data
    while True:
        try:
            protocol.parser.feed_data(rest)
        except httptools.HttpParserUpgrade as upgrade:
            end_of_head: int = upgrade.args[0]
        else:
            return
        head = _head_without_offer(protocol)
        protocol.parser = httptools.HttpRequestParser(protocol)
        protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        protocol.parser.feed_data(head)
        rest = memoryview(rest)[end_of_head:]


def _head_without_offer(protocol: HttpToolsProtocol) -> bytes:
    method, version = protocol.parser.get_method(), protocol.parser.get_http_version().encode()
    lines = [b"%b: %b\r\n" % header for header in protocol.headers if header[0] != b"upgrade"]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, protocol.url, version, b"".join(lines))


def _expect_sound_head(version: str, headers: Headers) -> None:
    """What others may take for another request than the parser does (RFC 9112, 3.2 and 6.1).

    The parser refuses two lengths, and a length together with a coding.
    """
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts != 1 and (hosts or version != "1.0"):
        raise Fault(BadRequest(f"The request has {hosts} headers Host; expected one."))
    if hosts and not _HOST.fullmatch(headers[names.index(b"host")][1]):
        raise Fault(BadRequest("The header Host is no name or address of a host."))
    if b"transfer-encoding" in names:
        codings = b", ".join(value.strip() for name, value in headers if name == b"transfer-encoding")
        if version == "1.0":
            raise Fault(BadRequest("The request of HTTP/1.0 has a Transfer-Encoding; expected none."))
        if codings.lower() != b"chunked":
            shown = codings[:_SHOWN_BYTES].decode("latin-1")
            raise Fault(UnknownCoding(f"The transfer coding is {shown!r}; expected 'chunked'."))
