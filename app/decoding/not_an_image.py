"""What clients send by mistake where a picture belongs: texts, packed files, pictures spoiled on their way.

Knows their first bytes, and nothing of decoding.
"""

import base64
import binascii
import re

_HEAD_BYTES = 1024
_BEFORE_TEXT = b"\xef\xbb\xbf \t\r\n\"'"  # a byte order mark, blanks, quotes
_BASE64_CHARACTERS = 32  # as many as tell which file it is

_PATTERNS = {
    "a data: URL, which is not decoded": re.compile(rb"data:[\w.+-]+/", re.IGNORECASE),
    "a URL, and nothing is fetched": re.compile(rb"(https?|ftp|s3|gs|file)://", re.IGNORECASE),
    "HTML": re.compile(rb"(<!--.*?-->\s*)?<(!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL),
    "XML": re.compile(rb"<\?xml\b"),
    "JSON": re.compile(rb'[{\[]\s*["{\[\]}\d-]'),
    "a multipart form whose content type does not say multipart/form-data and its boundary": re.compile(
        rb"--[^\r\n]+\r?\nContent-Disposition: *form-data", re.IGNORECASE
    ),
}
_STRIPPED = "{} without its line ends and zero bytes, as curl -d sends it (curl --data-binary sends all)"
_REENCODED = "{} that was taken for text and written again as UTF-8"
_MARKS = {
    "gzip, which is not unpacked": (b"\x1f\x8b",),
    _STRIPPED.format("a PNG"): (b"\x89PNG\x1a", b"\x89PNG\n\x1a\n"),
    _STRIPPED.format("a JPEG"): (b"\xff\xd8\xff\xe0\x10JFIF",),
    _REENCODED.format("a PNG"): (b"\xef\xbf\xbdPNG", b"\xc2\x89PNG"),
    _REENCODED.format("a JPEG"): (b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", b"\xc3\xbf\xc3\x98\xc3\xbf"),
}
_IMAGE_MARKS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def what_it_is(payload: bytes) -> str | None:
    """What `payload`, which is no picture, is instead; None where that is not known."""
    marked = next((what for what, marks in _MARKS.items() if payload.startswith(marks)), None)
    if marked is not None:
        return marked
    text = payload[:_HEAD_BYTES].lstrip(_BEFORE_TEXT)
    if _is_base64(text):
        return "base64 text, which is not decoded"
    return next((what for what, pattern in _PATTERNS.items() if pattern.match(text)), None)


def _is_base64(text: bytes) -> bool:
    """Whether it is that of a picture."""
    first = text.translate(None, b"\r\n")[:_BASE64_CHARACTERS].translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(first, validate=True).startswith(_IMAGE_MARKS)
    except binascii.Error:
        return False
