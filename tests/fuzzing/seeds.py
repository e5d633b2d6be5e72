"""Where fuzzing starts: small, whole pictures of every accepted format, mode and way of writing them."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

ROOT = Path(__file__).resolve().parents[2]

from tests.faults.hostile import (  # noqa: E402  # noqa: E402
    ENDLESS_EXIF,
    ONE_STRIP,
    chunk,
    jpeg_of_scans,
    longs,
    png_declaring,
    png_with,
    rationals,
    run_length_bmp,
    segment,
    tiff,
    tiff_image,
)

SIZE = (19, 13)
_EXIF = tiff({0x0112: (3, 1, struct.pack("<HH", 6, 0)), 282: rationals(1), 0x8769: longs(26)})


def images() -> dict[str, bytes]:
    """Files by name; the name begins with the format."""
    return {name: payload for kind in (_png, _jpeg, _gif, _webp, _bmp, _tiff) for name, payload in kind()}


def drawn(mode: str = "RGB") -> Image.Image:
    """Noise over a gradient, so that neither run lengths nor predictors have an easy time."""
    width, height = SIZE
    noise = np.random.default_rng(5).integers(0, 60, (height, width, 4))
    ramp = np.arange(width * height).reshape(height, width, 1) % 190
    image = Image.fromarray((noise + ramp).astype(np.uint8), "RGBA")
    if mode in ("I;16", "I", "F"):
        values = np.asarray(image.convert("L"), dtype=np.float32)
        kinds = {"I;16": (np.uint16, 257), "I": (np.int32, 257), "F": (np.float32, 1 / 255)}
        dtype, scale = kinds[mode]
        return Image.fromarray((values * scale).astype(dtype))
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def saved(mode: str, kind: str, **options: Any) -> bytes:
    return written(drawn(mode), kind, **options)


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _animated(kind: str, **options: Any) -> bytes:
    others = [drawn().rotate(90 * turn) for turn in (1, 2)]
    return saved("RGB", kind, save_all=True, append_images=others, duration=40, **options)


def _png() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"png {mode}", saved(mode, "PNG")
    for depth, color, row in ((2, 0, 5), (4, 3, 10), (16, 2, 114), (16, 4, 76), (16, 6, 152)):
        rows = bytes(range(row)) * 13 if row < 256 else b""
        pixels = b"".join(b"\2" + rows[:row] for _ in range(13))
        yield f"png {depth} bits, colour {color}", png_declaring(*SIZE, depth, color, pixels)
    yield "png transparent palette", saved("P", "PNG", transparency=bytes(range(200)))
    yield "png transparent colour", saved("RGB", "PNG", transparency=(1, 2, 3))
    yield "png exif, profile, resolution", saved("RGB", "PNG", exif=_EXIF, icc_profile=profile()[:600], dpi=(72, 72))
    yield "png animated", _animated("PNG")
    yield (
        "png notes",
        png_with(
            chunk(b"tEXt", b"Title\0words"),
            chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"words")),
            chunk(b"iTXt", b"Title\0\1\0en\0Titel\0" + zlib.compress(b"words")),
            chunk(b"gAMA", struct.pack(">I", 45455)),
            chunk(b"cHRM", struct.pack(">8I", *range(8))),
            chunk(b"sRGB", b"\0"),
            chunk(b"eXIf", ENDLESS_EXIF),
        ),
    )
    interlaced = bytearray(png_declaring(8, 8, 8, 0, bytes(64 + 15)))  # in seven passes of 15 rows in all
    interlaced[28] = 1
    interlaced[29:33] = struct.pack(">I", zlib.crc32(interlaced[12:29]))
    yield "png interlaced", bytes(interlaced)


def _jpeg() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        yield f"jpeg {mode}", saved(mode, "JPEG", quality=60)
    for subsampling in (0, 1, 2):
        yield f"jpeg progressive {subsampling}", saved("RGB", "JPEG", progressive=True, subsampling=subsampling)
    yield "jpeg restarts", saved("RGB", "JPEG", restart_marker_blocks=1, optimize=True)
    yield (
        "jpeg exif, profile, comment",
        saved("RGB", "JPEG", exif=b"Exif\0\0" + _EXIF, icc_profile=profile()[:600], comment=b"a comment", dpi=(72, 72)),
    )
    plain = saved("RGB", "JPEG")
    photoshop = b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10" + struct.pack(">IHHIHH", 72 << 16, 1, 1, 72 << 16, 1, 1)
    yield (
        "jpeg applications",
        plain[:2]
        + b"".join(
            segment(marker, content)
            for marker, content in (
                (0xE0, b"JFIF\0\1\1\1\0\x48\0\x48\0\0"),
                (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
                (0xE2, b"MPF\0" + tiff({0xB000: (7, 4, b"0100"), 0xB001: longs(2), 0xB002: (7, 32, bytes(32))})),
                (0xED, photoshop),
                (0xEE, b"Adobe\0\x64\0\0\0\0\1"),
            )
        )
        + plain[2:],
    )
    yield "jpeg of scans", jpeg_of_scans(9, 5)


def _gif() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P"):
        yield f"gif {mode}", saved(mode, "GIF")
    yield "gif interlaced, transparent", saved("P", "GIF", interlace=1, transparency=3, comment=b"a comment")
    yield "gif animated", _animated("GIF", disposal=2, loop=3)


def _webp() -> Iterator[tuple[str, bytes]]:
    for mode in ("RGB", "RGBA"):
        yield f"webp {mode}", saved(mode, "WEBP", quality=50)
        yield f"webp lossless {mode}", saved(mode, "WEBP", lossless=True)
    yield "webp exif, profile", saved("RGB", "WEBP", exif=_EXIF, icc_profile=profile()[:600], xmp=b"<x:xmpmeta/>")
    yield "webp animated", _animated("WEBP")


def _bmp() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp {mode}", saved(mode, "BMP")
    runs = b"\x08\1\0\0" * 4 + b"\0\4\1\2\3\4\4\5\0\0" + b"\1\2\0\2\0\1\7\3\0\0" + b"\x08\6\0\1"
    yield "bmp run lengths", run_length_bmp(8, 8, runs)
    for bits, masks in ((16, (0x7C00, 0x3E0, 0x1F)), (32, (0xFF0000, 0xFF00, 0xFF))):
        row = (4 * bits // 8 + 3) // 4 * 4
        info = struct.pack("<IiiHHIIiiII", 56, 4, -4, 1, bits, 3, row * 4, 0, 0, 0, 0) + struct.pack("<4I", *masks, 0)
        start = 14 + len(info)
        yield (
            f"bmp masks {bits}",
            b"BM" + struct.pack("<IHHI", start + row * 4, 0, 0, start) + info + bytes(range(row * 4)),
        )


def _tiff() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"):
        yield f"tiff {mode}", saved(mode, "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "zstd", "lzma"):
        yield f"tiff {compression}", saved("RGB", "TIFF", compression=compression)
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"tiff {compression}", saved("1", "TIFF", compression=compression)
    yield "tiff big", saved("RGB", "TIFF", big_tiff=True)
    yield (
        "tiff predictor",
        saved("RGB", "TIFF", compression="tiff_lzw", tiffinfo={317: 2, 274: 6, 34675: profile()[:600]}),
    )
    yield "tiff pages", _animated("TIFF")
    tiles = {
        322: longs(16),
        323: longs(16),
        324: longs(*[210 + 768 * tile for tile in range(4)]),
        325: longs(*[768] * 4),
    }
    yield "tiff tiles", tiff_image(19, tiles).ljust(210, b"\0") + bytes(index % 251 for index in range(768 * 4))
    yield (
        "tiff strips",
        tiff_image(8, {**ONE_STRIP, 273: longs(8, 104), 278: longs(4), 279: longs(96, 96)}) + bytes(200),
    )
    planes = {273: longs(8, 72, 136), 279: longs(64, 64, 64), 284: (3, 1, b"\2\0")}
    yield "tiff planes", tiff_image(8, planes) + bytes(200)
    swapped = io.BytesIO()
    drawn("I;16").save(swapped, "TIFF")
    yield "tiff 16 bits", swapped.getvalue()
