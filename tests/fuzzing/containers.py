"""Picture files as the pieces that they consist of, and whole again, with lengths and checksums put right.

So a mutation can lose, repeat, exchange or spoil a piece and still get past the checks at a decoder's door. Splitting
is lenient: bytes that fit no piece are a piece without a name.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_STANDALONE = {0x01, *range(0xD0, 0xDA)}  # JPEG markers without a length
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


@dataclass(frozen=True)
class Piece:
    """A chunk, segment, block or tag. `name`: its type as the format has it."""

    name: bytes
    content: bytes


@dataclass(frozen=True)
class Container:
    """A file in pieces. `join` makes a file of any pieces of the same format."""

    kind: str
    pieces: list[Piece]
    join: Callable[[list[Piece]], bytes]


def kind_of(payload: bytes) -> str:
    """The format that the first bytes promise, or "other"."""
    if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
        return "webp"
    marks = {_PNG: "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp", b"II": "tiff", b"MM": "tiff"}
    return next((kind for mark, kind in marks.items() if payload.startswith(mark)), "other")


def split(payload: bytes) -> Container | None:
    """None where the format has no pieces, or the file is too short to have any."""
    try:
        return _SPLITTERS[kind_of(payload)](payload)
    except (KeyError, struct.error):
        return None


# --- PNG ---


def _split_png(payload: bytes) -> Container:
    pieces, at = [], len(_PNG)
    while at + 12 <= len(payload):
        (length,) = struct.unpack_from(">I", payload, at)
        pieces.append(Piece(payload[at + 4 : at + 8], payload[at + 8 : at + 8 + length]))
        at += 12 + length
    return Container("png", [*pieces, Piece(b"", payload[at:])], _join_png)


def _join_png(pieces: list[Piece]) -> bytes:
    return _PNG + b"".join(_chunk(piece) for piece in pieces)


def _chunk(piece: Piece) -> bytes:
    if len(piece.name) != 4:
        return piece.content
    checksum = zlib.crc32(piece.name + piece.content)
    return struct.pack(">I", len(piece.content)) + piece.name + piece.content + struct.pack(">I", checksum)


# --- JPEG ---


def _split_jpeg(payload: bytes) -> Container:
    pieces, at = [], 2
    while at + 4 <= len(payload):
        if payload[at] != 0xFF or payload[at + 1] in (0x00, 0xFF):  # coded pixels, up to the next marker
            marker = _JPEG_MARKER.search(payload, at + 1)
            end = marker.start() if marker else len(payload) - 1
            pieces.append(Piece(b"", payload[at:end]))
            at = end
        elif payload[at + 1] in _STANDALONE:
            pieces.append(Piece(b"", payload[at : at + 2]))
            at += 2
        else:
            (length,) = struct.unpack_from(">H", payload, at + 2)
            pieces.append(Piece(payload[at : at + 2], payload[at + 4 : at + 2 + length]))
            at += 2 + max(2, length)
    return Container("jpeg", [*pieces, Piece(b"", payload[at:])], _join_jpeg)


def _join_jpeg(pieces: list[Piece]) -> bytes:
    return b"\xff\xd8" + b"".join(
        piece.name + struct.pack(">H", (len(piece.content) + 2) & 0xFFFF) + piece.content
        if piece.name
        else piece.content
        for piece in pieces
    )


# --- GIF ---


def _split_gif(payload: bytes) -> Container:
    colors_end = 13 + (3 << ((payload[10] & 7) + 1) if payload[10:11] and payload[10] & 0x80 else 0)
    pieces, at = [Piece(b"", payload[:colors_end])], colors_end
    while at < len(payload) and payload[at] in b"!,":
        head = 2 if payload[at] == 0x21 else 11
        if head == 11 and payload[at + 9 : at + 10] and payload[at + 9] & 0x80:
            head += 3 << ((payload[at + 9] & 7) + 1)
        end = at + head
        while end < len(payload) and payload[end]:
            end += payload[end] + 1
        pieces.append(Piece(payload[at : at + head], payload[at + head : end + 1]))
        at = end + 1
    return Container("gif", [*pieces, Piece(b"", payload[at:])], _join_gif)


def _join_gif(pieces: list[Piece]) -> bytes:
    return b"".join(piece.name + piece.content for piece in pieces)


# --- WebP ---


def _split_webp(payload: bytes) -> Container:
    pieces, at = [], 12
    while at + 8 <= len(payload):
        (length,) = struct.unpack_from("<I", payload, at + 4)
        pieces.append(Piece(payload[at : at + 4], payload[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return Container("webp", [*pieces, Piece(b"", payload[at:])], _join_webp)


def _join_webp(pieces: list[Piece]) -> bytes:
    body = b"WEBP" + b"".join(_riff(piece) for piece in pieces)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _riff(piece: Piece) -> bytes:
    if len(piece.name) != 4:
        return piece.content
    return piece.name + struct.pack("<I", len(piece.content)) + piece.content + bytes(len(piece.content) % 2)


# --- TIFF: the tags of the first directory; a new directory is appended, so that pixels stay where they are ---


def _split_tiff(payload: bytes) -> Container:
    order = "<" if payload[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", payload, 4)
    (count,) = struct.unpack_from(order + "H", payload, start)
    pieces = [_tag(payload, order, start + 2 + 12 * index) for index in range(min(count, 64))]
    return Container("tiff", pieces, lambda changed: _join_tiff(payload, order, changed))


def _tag(payload: bytes, order: str, at: int) -> Piece:
    kind, count, offset = struct.unpack_from(order + "HII", payload, at + 2)
    length = _TYPE_BYTES.get(kind, 1) * count
    value = payload[at + 8 : at + 12] if length <= 4 else payload[offset : offset + min(length, 4096)]
    return Piece(payload[at : at + 2], payload[at + 2 : at + 8] + value)


def _join_tiff(payload: bytes, order: str, pieces: list[Piece]) -> bytes:
    tags = [piece for piece in pieces if len(piece.name) == 2 and len(piece.content) >= 6]
    start = len(payload)
    beyond, entries, values = start + 2 + 12 * len(tags) + 4, bytearray(), bytearray()
    for tag in tags:
        head, value = tag.content[:6], tag.content[6:]
        inside = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", beyond + len(values))
        values += value if len(value) > 4 else b""
        entries += tag.name + head + inside
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4) + values
    return payload[:4] + struct.pack(order + "I", start) + payload[8:] + directory


_SPLITTERS: dict[str, Callable[[bytes], Container]] = {
    "png": _split_png,
    "jpeg": _split_jpeg,
    "gif": _split_gif,
    "webp": _split_webp,
    "tiff": _split_tiff,
}
