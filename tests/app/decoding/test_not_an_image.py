"""What clients send by mistake is said in a word; the codes stay those of bytes that are no picture."""

import base64
import gzip
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.decoding.decoder import DecodeLimits, decode
from app.decoding.not_an_image import what_it_is
from app.errors import BadImage
from tests.app.color_bundle import RED, image

PNG, JPEG = image(RED, size=(64, 64)), image(RED, size=(64, 64), kind="JPEG")
KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
FORM = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


def as_curl_d_sends(payload: bytes) -> bytes:
    return payload.translate(None, b"\r\n\0")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        *((base64.b64encode(image(RED, kind=kind)), "is base64 text, which is not decoded; ") for kind in KINDS),
        (base64.encodebytes(PNG), "is base64 text, "),
        (b'"' + base64.b64encode(PNG) + b'"', "is base64 text, "),
        (base64.urlsafe_b64encode(JPEG), "is base64 text, "),
        (b"data:image/png;base64," + base64.b64encode(PNG), "is a data: URL, which is not decoded; "),
        (b"https://shop.example/1.png\n", "is a URL, and nothing is fetched; "),
        (b"<!DOCTYPE html><title>Not found</title>", "is HTML; "),
        (b"\n<html lang=en>", "is HTML; "),
        (b'<?xml version="1.0"?><Error/>', "is XML; "),
        (json.dumps({"image": base64.b64encode(PNG).decode()}).encode(), "is JSON; "),
        (b"\xef\xbb\xbf[ [0, 1] ]", "is JSON; "),
        (gzip.compress(PNG), "is gzip, which is not unpacked; "),
        (FORM + PNG + b"\r\n--XX--\r\n", "is a multipart form whose content type does not say multipart/form-data"),
        (
            as_curl_d_sends(PNG),
            "is a PNG without its line ends and zero bytes, as curl -d sends it (curl --data-binary",
        ),
        (as_curl_d_sends(JPEG), "is a JPEG without its line ends and zero bytes, "),
        (PNG.replace(b"\r\n", b"\n"), "is a PNG without its line ends and zero bytes, "),
        (PNG.decode(errors="replace").encode(), "is a PNG that was taken for text and written again as UTF-8; "),
        (JPEG.decode(errors="replace").encode(), "is a JPEG that was taken for text and written again as UTF-8; "),
        (PNG.decode("latin-1").encode(), "is a PNG that was taken for text "),
        (JPEG.decode("latin-1").encode(), "is a JPEG that was taken for text "),
        (b"Hello, world", "starts with 48 65 6c 6c 6f 2c 20 77 and is no picture; "),
        (b"{x}", "starts with 7b 78 7d and is no picture; "),
        (b"Quality is not base64", "starts with 51 75 61 6c 69 74 79 20 and is no picture; "),
    ],
)
def test_what_is_no_picture_is_named(payload: bytes, words: str) -> None:
    with pytest.raises(BadImage) as refused:
        decode(payload, 3, 8, DecodeLimits(1 << 20, 1 << 20))
    assert str(refused.value).startswith(f"The file {words}")
    assert str(refused.value).endswith("; expected JPEG, PNG, WebP, GIF, BMP or TIFF.")


@given(st.binary(max_size=64))
@example(b"")
@example(b"=")
def test_any_bytes_are_looked_at_without_an_error(payload: bytes) -> None:
    what = what_it_is(payload)
    assert what is None or what
