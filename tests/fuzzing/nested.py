"""Picture files that hold other files, whole or in pieces: thumbnails, profiles, notes, frames, strips."""

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial

from tests.fuzzing import extremes, seeds, tiff_files
from tests.fuzzing.containers import Piece, split

from tests.faults.hostile import chunk, gif_with, jpeg_of_arithmetic_scans, png_with, red, segment  # isort: skip -- seeds finds it

_MOST_SEGMENT_BYTES = 65_533
_MOST_JPEG_PIXELS = 40_000
_MODES = {1: "L", 4: "CMYK"}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"

BatchRng = random.Random


def nested(rng: BatchRng) -> bytes:
    """A file in a file of some format."""
    return rng.choice(_OUTER)(inner(rng), rng)


def inner(rng: BatchRng) -> bytes:
    """What is put into another: a picture of any kind, something nested itself, a profile, or metadata."""
    what = rng.random()
    if what < 0.4:
        return rng.choice(_seeds())
    if what < 0.55:
        return extremes.extreme(rng)
    if what < 0.7:
        return metadata(rng)
    if what < 0.85:
        return profile(rng)
    return nested(rng)[:200_000] if what < 0.95 else extremes.bomb(rng)


@cache
def _srgb() -> bytes:
    return seeds.profile()


@cache
def _seeds() -> tuple[bytes, ...]:
    return tuple(seeds.images().values())


def profile(rng: BatchRng) -> bytes:
    """A colour profile, whole or with numbers changed, or its header with tags that share their bytes."""
    whole = bytearray(_srgb())
    if rng.random() < 0.4:
        return bytes(whole)
    if rng.random() < 0.5:
        number = extremes.repeats(rng)
        tags = struct.pack(">I", number) + struct.pack(">4sII", b"desc", 128, 1 << rng.randrange(32)) * number
        return bytes(whole[:128]) + tags
    for _ in range(rng.choice((1, 4, 20))):
        whole[rng.randrange(len(whole))] = rng.choice((0, 1, 127, 128, 255))
    return bytes(whole)


def metadata(rng: BatchRng) -> bytes:
    """Exif: a TIFF without pixels, with a thumbnail perhaps, whose directories may be loops."""
    thumbnail = rng.choice(_seeds())
    tags = [tiff_files.Tag(274, 3, [rng.choice((0, 1, 3, 6, 8, 9))])]
    if rng.random() < 0.5:
        tags += [tiff_files.Tag(513, 4, [tiff_files.DATA_AT]), tiff_files.Tag(514, 4, [len(thumbnail)])]
    tags += [tiff_files.Tag(number, 4, [rng.choice((tiff_files.DATA_AT, 8, 24, 1 << 31))])
             for number in (330, 34665, 34853, 40965) if rng.random() < 0.5]  # fmt: skip
    tags += [tiff_files.Tag(rng.randrange(65_536), 5, bytes(8) * (extremes.repeats(rng) % 3000))]
    return tiff_files.tiff_file(tags, thumbnail, order=rng.choice("<>"), following=rng.choice((0, -1, 16)))


def _perhaps_repeated(content: bytes, rng: BatchRng) -> bytes:
    return content * _times(len(content), rng)


def _times(length: int, rng: BatchRng) -> int:
    return extremes.within(extremes.repeats(rng), length) if rng.random() < 0.2 else 1


def jpeg_of(width: int, height: int, channels: int, rng: BatchRng) -> bytes:
    """A JPEG stream of that size, or of another: of one scan or several, Huffman or arithmetic."""
    if not 0 < width * height <= _MOST_JPEG_PIXELS or rng.random() < 0.2:
        width, height = rng.choice(((8, 8), (16, 16), (200, 200), (2000, 16)))
    if rng.random() < 0.2:
        scans = extremes.repeats(rng) % 1000
        height = rng.choice((height, height, 65_000))  # which is more than the strip that it is in
        return jpeg_of_arithmetic_scans(width, height, scans, rng.choice((b"\x3f", b"\0")) * 500)
    whole = _plain_jpeg(width, height, _MODES.get(channels, "RGB"), progressive=rng.random() < 0.3)
    if rng.random() < 0.2:
        last = whole.rindex(b"\xff\xda")
        return whole[:-2] + whole[last:-2] * (extremes.repeats(rng) % 1000) + b"\xff\xd9"
    return whole


def _plain_jpeg(width: int, height: int, mode: str, *, progressive: bool) -> bytes:
    return seeds.written(seeds.drawn(mode).resize((width, height), 0), "JPEG", quality=30, progressive=progressive)


def _in_tiff(content: bytes, rng: BatchRng) -> bytes:
    """As its only strip, as a tag, as a table for JPEG, or as the stream of an old-style JPEG."""
    at = [tiff_files.DATA_AT]
    side = rng.choice((8, 19, 2000))
    tags = {256: [side], 257: [side], 258: [8], 259: [rng.choice((1, 6, 7, 8, 34712, 50001))], 262: [1],
            273: at, 277: [1], 278: [side], 279: [len(content)]}  # fmt: skip
    number = rng.choice((0, 330, 347, 513, 700, 34377, 34665, 34675, 37724, 50341))
    entries = [tiff_files.Tag(tag, 4, values) for tag, values in tags.items()]
    if number == 513:
        entries += [tiff_files.Tag(513, 4, at), tiff_files.Tag(514, 4, [len(content)])]
    elif number:
        entries.append(tiff_files.Tag(number, 7, content))
    return tiff_files.tiff_file(entries, content, order=rng.choice("<>"), is_big=rng.random() < 0.2)


def _in_jpeg(content: bytes, rng: BatchRng) -> bytes:
    prefix, marker = rng.choice((
        (b"Exif\0\0", 0xE1), (b"Exif\0\0", 0xE1), (_XMP, 0xE1), (b"MPF\0", 0xE2), (b"FPXR\0\0", 0xE2),
        (b"JFIF\0\1\1\1\0\1\0\1\x09\x09", 0xE0), (b"JFXX\0\x10", 0xE0), (b"", 0xFE),
        (b"Photoshop 3.0\0", 0xED), (b"Adobe\0\x64\0\0\0\0", 0xEE),
    ))  # fmt: skip
    if marker == 0xED:
        content = b"8BIM\4\x0c\0\0" + struct.pack(">I", len(content)) + content
    most = _MOST_SEGMENT_BYTES - len(prefix)
    segments = _perhaps_repeated(segment(marker, prefix + content[:most]), rng)
    whole = rng.choice(_jpegs())
    return whole[:2] + segments + whole[2:] + (content if rng.random() < 0.3 else b"")


def _profile_in_jpeg(content: bytes, rng: BatchRng) -> bytes:
    """In so many segments, numbered rightly, or not."""
    step = max(1, len(content) // rng.choice((1, 1, 2, 16, 255)))
    parts = [content[at : at + step][: _MOST_SEGMENT_BYTES - 14] for at in range(0, len(content), step)][:300]
    number = len(parts) if rng.random() < 0.7 else rng.randrange(256)
    segments = [segment(0xE2, b"ICC_PROFILE\0" + bytes(((index + 1) & 255, number & 255)) + part)
                for index, part in enumerate(parts)]  # fmt: skip
    if rng.random() < 0.3:
        rng.shuffle(segments)
    whole = rng.choice(_jpegs())
    return whole[:2] + b"".join(segments) * rng.choice((1, 1, 2)) + whole[2:]


@cache
def _jpegs() -> tuple[bytes, ...]:
    return tuple(payload for name, payload in seeds.images().items() if name.startswith("jpeg"))


def _in_png(content: bytes, rng: BatchRng) -> bytes:
    folded = zlib.compress(content, 1) if rng.random() < 0.5 else extremes.bomb(rng)
    inserted = rng.choice((
        chunk(b"iCCP", b"a\0\0" + folded), chunk(b"zTXt", b"Raw profile type exif\0\0" + folded),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + folded), chunk(b"eXIf", content),
        chunk(b"tEXt", b"Raw profile type exif\0" + content.hex().encode()),
        chunk(b"IDAT", content), chunk(b"fdAT", bytes(4) + content), content, chunk(b"prIv", content),
        chunk(b"acTL", struct.pack(">II", rng.choice((0, 1, 1 << 31)), 0)) + chunk(b"fcTL", bytes(26)),
    ))  # fmt: skip
    return png_with(_perhaps_repeated(inserted, rng))


def _in_webp(content: bytes, rng: BatchRng) -> bytes:
    """As a chunk behind VP8X, or as what a frame of an animation holds."""
    name = rng.choice((b"ICCP", b"EXIF", b"XMP ", b"ANMF", b"ANMF", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"RIFF"))
    if name == b"ANMF":
        frame = struct.pack("<HBHBHBHBHBB", 0, 0, 0, 0, 18, 0, 12, 0, 40, 0, rng.randrange(4))
        content = frame + (content[12:] if content.startswith(b"RIFF") else content)
    elif name == b"ALPH":
        content = rng.randbytes(1) + content
    inserted = Piece(name, content)
    whole = split(rng.choice((red("WEBP"), red("WEBP", lossless=True), _animation())))
    assert whole is not None
    flags = struct.pack("<IHBHB", rng.randrange(64), 18, 0, 12, 0)
    before = [Piece(b"VP8X", flags), *[Piece(b"ANIM", bytes(6))] * rng.randrange(2)]
    middle = [inserted] * _times(len(content) + 8, rng)
    return whole.join([*before, *middle, *whole.pieces] if rng.random() < 0.7 else [*before, *whole.pieces, *middle])


@cache
def _animation() -> bytes:
    return seeds.images()["webp animated"]


def _in_gif(content: bytes, rng: BatchRng) -> bytes:
    parts = [content[at : at + 255] for at in range(0, len(content), 255)]
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    applications = (b"XMP DataXMP", b"ICCRGBG1012", b"NETSCAPE2.0")
    head = rng.choice((b"!\xfe", b"!\x01\x0c" + bytes(12), *(b"!\xff\x0b" + name for name in applications)))
    return gif_with(_perhaps_repeated(head + blocks + b"\0", rng))


def _in_bmp(content: bytes, rng: BatchRng) -> bytes:
    """As its pixels: compression 4 says that they are a JPEG, 5 a PNG."""
    return extremes.bmp(rng, rng.choice((4, 5, 0, 1, 3)), content)


def _elsewhere(content: bytes, rng: BatchRng) -> bytes:
    """In a format that is not accepted, or behind a picture."""
    icon = struct.pack("<HHHBBBBHHII", 0, rng.choice((1, 2)), 1, 16, 16, 0, 0, 1, 32, len(content), 22)
    heads = (icon, b"icns" + struct.pack(">I", len(content) + 16) + b"ic07" + struct.pack(">I", len(content) + 8),
             b"\0\0\1\xba", b"RIFF\xff\xff\0\0AVI ", b"8BPS\0\1", rng.choice(_seeds()), b"P6 8 8 255\n")  # fmt: skip
    return rng.choice(heads) + content


def _in_strips(content: bytes, rng: BatchRng) -> bytes:
    """A TIFF of strips or tiles that are JPEG streams, or anything else."""
    return tiff_files.tiff_image(rng, partial(jpeg_of, rng=rng))


_OUTER: tuple[Callable[[bytes, BatchRng], bytes], ...] = (
    *(_in_tiff, _in_jpeg, _in_jpeg, _profile_in_jpeg, _in_png, _in_png, _in_webp, _in_webp, _in_gif, _in_bmp),
    *(_elsewhere, _in_strips),
)  # fmt: skip
