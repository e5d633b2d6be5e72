"""Hostile and odd picture files: each gets its status, soon, in little memory, and nobody else notices."""

import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.servers import Server
from tests.faults.hostile import (
    ENDLESS_EXIF,
    MANY,
    ONE_STRIP,
    TILES_OF_A_GIGABYTE,
    broken_fax,
    chunk,
    descending_strips,
    empty_deflated_blocks,
    frames,
    gif_declaring,
    gif_with,
    grey_tiff,
    jpeg_declaring,
    jpeg_of_arithmetic_scans,
    jpeg_of_scans,
    jpeg_with,
    longs,
    noise,
    plain,
    png_declaring,
    png_with,
    rationals,
    red,
    red_run_length_bmp,
    red_tiff_of_one_value,
    red_tiff_with_directories,
    run_length_bmp,
    same_place,
    saved,
    segment,
    tiff,
    tiff_image,
    webp_declaring,
    webp_of_groups,
    zstd_of_tables,
)
from tests.faults.wire import FORM, Answer, ask, batch, forget_peak, lines_so_far, part, pid_of, post, usage
from tests.pace import is_within

pytestmark = pytest.mark.process

MOST_MEGABYTES = 200
MOST_CPU_S = 2.0

File = Callable[[], bytes]

# Small files that unfold: 50 million pixels are declared, and there.
BOMBS: dict[str, File] = {
    "png": lambda: plain("RGB", 7000, "PNG", compress_level=1),
    "png, transparent": lambda: plain("RGBA", 7000, "PNG", compress_level=1),
    "png, 16 bits": lambda: saved(Image.fromarray(np.zeros((7000, 7000), np.uint16)), "PNG", compress_level=1),
    "png, palette": lambda: plain("P", 7000, "PNG", compress_level=1),
    "png, one bit": lambda: plain("1", 7000, "PNG"),
    "gif": lambda: plain("P", 7000, "GIF"),
    "webp": lambda: plain("RGB", 7000, "WEBP", lossless=True, method=0),
    "tiff": lambda: plain("RGB", 7000, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, floats": lambda: plain("F", 7000, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, cmyk": lambda: plain("CMYK", 7000, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, huge tiles": lambda: tiff_image(16, {**TILES_OF_A_GIGABYTE}, compression=8) + bytes(100),
    "jpeg, progressive": lambda: plain("RGB", 7000, "JPEG", progressive=True, subsampling=0),
    "jpeg, 1000 scans": lambda: jpeg_of_scans(2000, 1000),
    "jpeg, 19 arithmetic scans": lambda: jpeg_of_arithmetic_scans(7000, 7000, 19, b"\x3f" * 100_000),
    "tiff, scans in its strips": lambda: grey_tiff(2000, 22, jpeg_of_scans(200, 80, 2000), rows=200, compression=7),
    "tiff, arithmetic scans in its strips": lambda: grey_tiff(
        2000, 24, jpeg_of_arithmetic_scans(2000, 200, 95, b"\x3f" * 8000), rows=200, compression=7
    ),
    "tiff, a jpeg far taller than its only strip": lambda: grey_tiff(
        700, 1, jpeg_of_arithmetic_scans(700, 65_000, 60, b"\x3f" * 2000), rows=8, compression=7
    ),
    "tiff, tiles far wider than it": lambda: tiff_image(
        5000, {322: longs(65_504), 323: longs(16), 324: longs(*[8] * 313), 325: longs(*[9] * 313)}, compression=8
    ),
    "png, one row of 5 million": lambda: saved(Image.new("L", (5_000_000, 1)), "PNG"),
    "tiff, 5 million rows of one": lambda: saved(Image.new("L", (1, 5_000_000)), "TIFF", compression="packbits"),
    "bmp, one run": lambda: run_length_bmp(4_500_000, 1, b"\1\1\0\0\0\1"),
    "bmp, run lengths": lambda: run_length_bmp(50_000_000, 1, b"\1\0\0\0\0\1"),
    "png of 60000 x 60000": lambda: png_declaring(60_000, 60_000),
    "png of 2^31 x 2^31": lambda: png_declaring((1 << 31) - 1, (1 << 31) - 1),
    "bmp of 2^31": lambda: run_length_bmp((1 << 31) - 1, 1, b""),
    "jpeg of 65500 x 65500": lambda: jpeg_declaring(65_500, 65_500),
    "gif of 65535 x 65535": lambda: gif_declaring(65_535, 65_535),
    "webp, 65536 groups of codes": lambda: webp_of_groups(1024, 65_536),
    "webp of 16383 x 16383": lambda: webp_declaring(16_383, 16_383),
    "tiff of 2^31 x 2^31": lambda: tiff_image((1 << 31) - 1, {**ONE_STRIP}),
}

# Files of a few megabytes that are nothing but headers.
NOTHING_BUT_HEADERS: dict[str, File] = {
    "png, empty chunks": lambda: png_with(chunk(b"prIv") * MANY),
    "png, notes": lambda: png_with(chunk(b"tEXt", b"a\0") * MANY),
    "png, empty pieces of pixels": lambda: png_with(chunk(b"IDAT") * MANY),
    "png, profiles that unfold": lambda: png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * 5000),
    "png, notes that unfold and then break": lambda: png_with(
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)[:-8] + bytes(8)) * 5000
    ),
    "jpeg, comments": lambda: jpeg_with(b"\xff\xfe\0\2" * MANY),
    "jpeg, applications": lambda: jpeg_with(b"\xff\xe5\0\2" * MANY),
    "jpeg, fill bytes": lambda: jpeg_with(b"\xff" * 2 * MANY),
    "jpeg, stuffed bytes": lambda: jpeg_with(b"\xff\0" * MANY),
    "jpeg, exif": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + tiff({274: rationals(8000)})) * 40),
    "gif, a comment in pieces": lambda: gif_with(b"!\xfe" + b"\1a" * MANY + b"\0"),
    "tiff, fractions": lambda: tiff_image(8, {**ONE_STRIP, 282: rationals(MANY)}),
    "tiff, orientations": lambda: tiff_image(8, {**ONE_STRIP, 274: rationals(MANY)}),
    "tiff, strips": lambda: tiff_image(8, {**ONE_STRIP, 273: longs(*[8] * MANY)}),
    "tiff, the same strip again and again": lambda: same_place(1, 40_000, 4_000_000),
    "tiff, strips that each begin before the last": lambda: descending_strips(90_000, 20_000_000),
    "tiff, 65,535 samples a pixel": lambda: tiff_image(8, {**ONE_STRIP, 277: (3, 1, struct.pack("<I", 65_535))}),
    "tiff, strips that are too many": lambda: same_place(1, 60_000, 2_500_000),
    "tiff, compressed strips that are all of the file": lambda: grey_tiff(
        1, 40_000, b"\0\0" + bytes(2_000_000), {266: (3, 1, b"\2\0")}, compression=32773
    ),
    "tiff, strips that share a stream of empty blocks": lambda: grey_tiff(
        16, 60, empty_deflated_blocks(1_000_000), rows=16, compression=8
    ),
    "tiff, zstd of nothing but tables": lambda: grey_tiff(
        1000, 1, zstd_of_tables(1_180_000), rows=3500, compression=50_000
    ),
    "jpeg, quantisation tables": lambda: jpeg_with(segment(0xDB, (b"\0" + b"\1" * 64) * 1008) * 30),
    "jpeg, frames": lambda: jpeg_with(segment(0xC0, b"\x08\0\x08\0\x08\1" + bytes(60_000)) * 30),
    "jpeg, blocks of photoshop": lambda: jpeg_with(
        segment(0xED, b"Photoshop 3.0\0" + (b"8BIM\4\4\0\0" + bytes(4)) * 5000) * 30
    ),
    "bmp, empty runs": lambda: run_length_bmp(64, 64, b"\0\0" * MANY),
}
SAMPLES, UNSEEN = NOTHING_BUT_HEADERS["tiff, 65,535 samples a pixel"], "unsupported_format"  # a kind of its own

# Files that stop in the middle, or are something else.
BROKEN: dict[str, File] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\x89",
    "text": lambda: b"Hello, world. " * 100,
    "zeros": lambda: bytes(100_000),
    "html": lambda: b"<!doctype html><html><body>Not a picture</body></html>",
    "png, only its signature": lambda: red()[:8],
    "png, in its header": lambda: red()[:20],
    "png, in its pixels": lambda: saved(noise(), "PNG")[:-500],
    "jpeg, in its tables": lambda: saved(noise(), "JPEG")[:100],
    "jpeg, in its pixels": lambda: saved(noise(), "JPEG")[:-500],
    "gif, in its pixels": lambda: saved(noise(), "GIF")[:-500],
    "webp, in its pixels": lambda: saved(noise(), "WEBP")[:-500],
    "tiff, in its pixels": lambda: saved(noise(), "TIFF", compression="tiff_lzw")[:-500],
    "tiff, before its directory": lambda: saved(noise(), "TIFF")[:8],
    "tiff, tags beyond its end": lambda: tiff_image(8, {**ONE_STRIP, 273: longs(1 << 30, 1 << 30)}),
    "bmp, in its pixels": lambda: saved(noise(), "BMP")[:-500],
    "png, a colour profile that unfolds": lambda: png_with(
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))
    ),
    "png, notes that unfold": lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 80),
    "png, wrong checksum": lambda: png_declaring(8, 8, pixels=bytes(200))[:-20] + bytes(20),
    "png, no width": lambda: png_declaring(0, 8),
    "a picture inside a text": lambda: b"see below: " + red(),
}

# Odd, and fine.
ODD: dict[str, File] = {
    "1 x 1": lambda: image(RED, size=(1, 1)),
    "1 x 60000": lambda: image(RED, size=(1, 60_000)),
    "60000 x 1": lambda: image(RED, size=(60_000, 1)),
    "jpeg, 1 x 65500": lambda: image(RED, size=(1, 65_500), kind="JPEG", quality=95, subsampling=0),
    "cmyk": lambda: image((0, 255, 255, 0), mode="CMYK", kind="TIFF"),
    "cmyk, jpeg": lambda: image((0, 255, 255, 0), mode="CMYK", kind="JPEG", quality=95),
    "palette": lambda: saved(Image.new("RGB", (8, 8), RED).quantize(2), "PNG"),
    "palette, transparent": lambda: saved(Image.new("RGB", (8, 8), RED).quantize(2), "PNG", transparency=1),
    "transparent": lambda: image((255, 0, 0, 200), mode="RGBA"),
    "palette, each colour with a transparency of its own": lambda: saved(
        Image.new("RGB", (8, 8), RED).quantize(2), "PNG", transparency=bytes([200, 0])
    ),
    "bmp of rows that are filled": lambda: red_run_length_bmp(65_000, 69),
    "16 bits a channel": lambda: png_declaring(8, 8, depth=16, pixels=(b"\0" + b"\xff\xff\0\0\0\0" * 8) * 8),
    "3000 frames, gif": lambda: frames("GIF"),
    "3000 frames, webp": lambda: frames("WEBP", lossless=True, method=0),
    "3000 frames, png": lambda: frames("PNG"),
    "directories of two million fractions, tiff": lambda: red_tiff_with_directories(2_400_000),
    "a thousand tags of the same 20 MB, tiff": lambda: red_tiff_of_one_value(1000, 19_000_000),
    "300 pages": lambda: frames("TIFF", 300),
    "exif that refers to itself, jpeg": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + ENDLESS_EXIF)),
    "exif that refers to itself, png": lambda: png_with(chunk(b"eXIf", ENDLESS_EXIF)),
    "exif of a million fractions": lambda: png_with(chunk(b"eXIf", tiff({274: rationals(7 * MANY)}))),
    "colour profile of junk": lambda: png_with(chunk(b"iCCP", b"junk\0\0" + zlib.compress(b"\xff" * 1000))),
    "colour profile of junk, jpeg": lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\xff" * 1000)),
    "pixels for a gigabyte behind the last row": lambda: png_declaring(
        8, 8, pixels=(b"\0" + b"\xff\0\0" * 8) * 8 + bytes(100_000_000)
    ),
    "a zip archive behind it": lambda: red() + b"PK\3\4" + bytes(1000),
    "a script behind it": lambda: red("GIF") + b"<script>alert(1)</script>",
    "a second jpeg behind it": lambda: red("JPEG", quality=95, subsampling=0) * 2,
}

# The largest that fit: decoding them takes nearly all of what one picture may take.
LARGE: dict[str, File] = {
    "png": lambda: plain("RGB", 3510, "PNG", compress_level=1),
    "png, lying": lambda: plain("RGB", 3510, "PNG", compress_level=1, exif=tiff({274: (3, 1, b"\6\0")})),
    "png, 16 bits": lambda: saved(Image.fromarray(np.zeros((2200, 2200), np.uint16)), "PNG", compress_level=1),
    "webp": lambda: plain("RGB", 2815, "WEBP", lossless=True, method=0),
    "jpeg": lambda: plain("RGB", 7000, "JPEG"),
    "jpeg, progressive": lambda: plain("RGB", 5290, "JPEG", progressive=True, subsampling=0),
}


def _named(files: dict[str, File]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files.values(), ids=files.keys())


def _beside_a_neighbour(service: Server, payload: bytes) -> Answer:
    """The answer to a file, while another client gets its own right answer."""
    neighbours: list[Answer] = []
    other = threading.Thread(target=lambda: neighbours.append(ask(service, batch(image(BLUE), image(GREEN)))))
    other.start()
    answer = ask(service, post(payload))
    other.join()
    assert [_best_of(entry) for entry in neighbours[0].json["results"]] == ["blue", "green"]
    return answer


def _best_of(entry: dict[str, Any]) -> str:
    """The first label of one place in a batch, or the code of its error."""
    return str(entry["error"]["code"] if "error" in entry else entry["predictions"][0]["label"])


@pytest.fixture(scope="module")
def idle_megabytes(service: Server) -> float:
    """What the service holds once it has served a little."""
    for payload in (image(RED), red("JPEG"), red("WEBP"), red("TIFF"), red("GIF"), red("BMP")):
        assert ask(service, post(payload)).status == 200
    return usage(pid_of(service)).held


@pytest.fixture
def cheaply(service: Server, idle_megabytes: float) -> Callable[[bytes], Answer]:
    """Sends a file beside a neighbour, and holds the service to its bounds."""

    def sent(payload: bytes) -> Answer:
        forget_peak(pid_of(service))
        before = usage(pid_of(service))
        answer = _beside_a_neighbour(service, payload)
        after = usage(pid_of(service))
        assert after.peak - idle_megabytes <= MOST_MEGABYTES
        assert is_within(after.cpu_s - before.cpu_s, MOST_CPU_S)
        return answer

    return sent


@_named(BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(file: File, cheaply: Callable[[bytes], Answer]) -> None:
    answer = cheaply(file())
    assert (answer.status, answer.code) == (413, "too_many_pixels")


@_named(NOTHING_BUT_HEADERS)
def test_a_file_of_nothing_but_headers_is_no_picture(file: File, cheaply: Callable[[bytes], Answer]) -> None:
    answer = cheaply(file())
    assert (answer.status, answer.code) == ((415, UNSEEN) if file is SAMPLES else (400, "bad_picture"))


@_named(BROKEN)
def test_what_is_broken_or_something_else_is_no_picture(file: File, cheaply: Callable[[bytes], Answer]) -> None:
    answer = cheaply(file())
    assert (answer.status, answer.code) == (400, "bad_picture")


@_named(ODD)
def test_what_is_odd_is_seen_as_it_is(file: File, cheaply: Callable[[bytes], Answer]) -> None:
    answer = cheaply(file())
    assert answer.status == 200, answer.body
    assert answer.label == "red"


@_named(LARGE)
def test_what_is_large_is_decoded_in_bounded_memory(file: File, cheaply: Callable[[bytes], Answer]) -> None:
    assert cheaply(file()).status == 200


@pytest.mark.parametrize("content_type", [b"image/jpeg", b"image/svg+xml", b"application/octet-stream"])
def test_a_wrong_type_or_name_changes_nothing(content_type: bytes, service: Server) -> None:
    assert ask(service, post(image(RED), content_type=content_type)).label == "red"
    for name in (b"red.jpg", b"red.exe", b"red.png.gif", b"../../red.tiff", b""):
        form = part(image(RED), filename=name) + b"--XX--\r\n"
        assert ask(service, post(form, content_type=FORM)).label == "red"


# So many bytes at the end of a file are not missed: checksums, and what says that it ends.
UNMISSED = {"PNG": 20, "JPEG": 2, "GIF": 2, "WEBP": 1, "TIFF": 0, "BMP": 0}


@pytest.mark.parametrize("kind", UNMISSED)
def test_a_file_cut_off_at_any_byte_is_no_picture_and_its_neighbours_are_seen(kind: str, service: Server) -> None:
    whole = red(kind)
    for start in range(0, len(whole), 60):
        cuts = range(start, min(start + 60, len(whole)))
        answer = ask(service, batch(image(GREEN), *(whole[:cut] for cut in cuts), image(BLUE)))
        first, *results, last = answer.json["results"]
        assert (_best_of(first), _best_of(last)) == ("green", "blue")
        for cut, result in zip(cuts, results, strict=True):
            assert _best_of(result) == ("red" if cut >= len(whole) - UNMISSED[kind] else "bad_picture"), cut
    assert ask(service, post(whole)).label == "red"


@pytest.mark.timeout(300)
def test_hostile_files_spoil_only_their_own_places_in_a_batch(service: Server) -> None:
    refused = {**dict.fromkeys((*BROKEN.values(), *NOTHING_BUT_HEADERS.values()), "bad_picture")}
    refused |= {**dict.fromkeys(BOMBS.values(), "too_many_pixels"), SAMPLES: UNSEEN}
    files = list(refused)
    for some in (files[start : start + 20] for start in range(0, len(files), 20)):
        answer = ask(service, batch(*(payload for file in some for payload in (image(BLUE), file()))))
        assert answer.status == 200
        results = answer.json["results"]
        assert [_best_of(entry) for entry in results[::2]] == ["blue"] * len(some)
        assert [_best_of(entry) for entry in results[1::2]] == [refused[file] for file in some]


def test_a_batch_of_long_lines_in_few_bytes_costs_no_more_than_one_picture_may(service: Server) -> None:
    before = usage(pid_of(service)).cpu_s
    answer = ask(service, batch(*[red_run_length_bmp(65_000, 69)] * 20))
    assert [_best_of(entry) for entry in answer.json["results"]] == ["red"] * 20
    assert is_within(usage(pid_of(service)).cpu_s - before, MOST_CPU_S)


STRANGE_TAGS = {number: (4, 1 << 30, struct.pack("<I", 1 << 30)) for number in range(40_000, 41_000)}


@pytest.mark.parametrize(
    "file",
    [
        lambda: tiff_image(8, {**ONE_STRIP, **STRANGE_TAGS}),
        lambda: tiff_image(8, {**ONE_STRIP, 277: (3, 1, struct.pack("<I", 7))}),
        broken_fax,
    ],
    ids=["tags", "samples", "fax"],
)
def test_what_is_odd_in_a_file_does_not_fill_the_log(file: File, service: Server) -> None:
    before = lines_so_far(service)
    assert ask(service, post(file())).status in (200, 400, 415)
    written = service.lines[before : lines_so_far(service) - 1]
    assert len(written) == 1
    assert not [line for line in written if "mixer.access" not in line]


def test_after_all_of_it_the_service_is_ready_and_holds_little_more_than_before(
    service: Server, idle_megabytes: float
) -> None:
    assert service.get("/health/ready")
    assert ask(service, post(image(GREEN))).label == "green"
    assert usage(pid_of(service)).held - idle_megabytes <= MOST_MEGABYTES
