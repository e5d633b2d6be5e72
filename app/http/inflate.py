"""A compressed body as it arrives -> what it stands for, under the limits of any body. Knows nothing of requests."""

import zlib
from collections.abc import Callable

from app.errors import BadRequest, TooManyBytes
from app.http.upload_budget import BodyReservation

ENCODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # RFC 9110, 8.4.1
_BYTES_AT_ONCE = 1 << 20


class Inflate:
    """A compressed body on its way in: what it stands for is counted by the same limits, before there is more of it."""

    def __init__(
        self, encoding: bytes, max_bytes: int, reservation: BodyReservation, take: Callable[[bytes], object]
    ) -> None:
        self._zlib = zlib.decompressobj(ENCODINGS[encoding])
        self._encoding, self._max_bytes = encoding.decode(), max_bytes
        self._reservation, self._take = reservation, take
        self._bytes = 0

    def __call__(self, piece: bytes) -> None:
        """More of the body. Raises BadRequest, TooManyBytes, UploadsFull."""
        while piece:
            if self._zlib.eof:
                raise self._goes_on()  # at once: zlib would copy all that is behind the end with every piece of it
            try:
                inflated = self._zlib.decompress(piece, _BYTES_AT_ONCE)
            except zlib.error as error:
                raise BadRequest(f"The body is no {self._encoding}: {error}.") from None
            self._bytes += len(inflated)
            if self._bytes > self._max_bytes:
                raise TooManyBytes(f"The body stands for more than {self._max_bytes} bytes, the most expected.")
            self._reservation.add(len(inflated))
            self._take(inflated)
            piece = self._zlib.unconsumed_tail

    def end(self) -> None:
        """Raises BadRequest where there should be more, or is."""
        if not self._zlib.eof or self._zlib.unused_data:
            raise self._goes_on()

    def _goes_on(self) -> BadRequest:
        return BadRequest(f"The body does not end where its {self._encoding} data do.")
