"""Bytes -> pixels, under limits: every accepted format, and every way in which bytes are not one."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from app.decoding.cost_checks import DecodeBudget
from app.decoding.decoder import FORMATS, MARGIN, DecodeLimits, decode
from app.errors import BadImage, ServiceError, TooManyBytes, TooManyPixels, UnsupportedFormat
from app.system.quota import Quota
from model.preprocess import Pixels, to_square
from model.spec import Fit
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.servers import ROOT, clean_environment
from tests.pace import slowness_at_first

sys.path.append(str(Path(__file__).parents[1] / "model"))
from tests.model.icc_profiles import DISPLAY_P3, ink_profile, rgb_profile

LIMITS = DecodeLimits(max_bytes=1 << 20, max_pixels=50_000_000)
ROOMY = DecodeLimits(1 << 24, 50_000_000, DecodeBudget(Quota(1 << 30)))
LOSSY_KINDS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}


def decoded(payload: bytes, channels: int = 3, useful_side: int = 8, limits: DecodeLimits = LIMITS) -> Pixels:
    return decode(payload, channels, useful_side, limits)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png_declaring(width: int, height: int) -> bytes:
    """The head of a PNG file, and no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


# --- what is accepted ---


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_is_decoded_to_rgb(kind: str) -> None:
    left_red = Image.new("RGB", (12, 6), BLUE)
    left_red.paste(RED, (0, 0, 6, 6))
    pixels = decoded(saved(left_red, kind, **LOSSY_KINDS.get(kind, {})))
    assert (pixels.shape, pixels.dtype) == ((6, 12, 3), np.uint8)
    assert np.abs(pixels[:, 1].astype(int) - RED).max() <= 12
    assert np.abs(pixels[:, -2].astype(int) - BLUE).max() <= 12


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_is_decoded_to_grey(kind: str) -> None:
    pixels = decoded(saved(Image.new("RGB", (12, 6), GREEN), kind, **LOSSY_KINDS.get(kind, {})), channels=1)
    assert pixels.shape == (6, 12, 1)
    assert np.abs(pixels.astype(int) - 150).max() <= 3  # 0.587 of 255


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_a_picture_stands_upright_as_its_exif_orientation_says(kind: str) -> None:
    lying = Image.new("RGB", (16, 8), RED)
    lying.paste(BLUE, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise: left becomes top
    pixels = decoded(saved(lying, kind, exif=exif, **LOSSY_KINDS.get(kind, {})))
    assert pixels.shape == (16, 8, 3)
    assert np.abs(pixels[1, 4].astype(int) - BLUE).max() <= 12
    assert np.abs(pixels[-2, 4].astype(int) - RED).max() <= 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert("LA" if mode == "LA" else "RGBA")
    options = {}
    if mode == "P":
        clear = Image.new("P", (4, 4), 0)
        clear.putpalette([255, 0, 0])
        options = {"transparency": 0}
    assert (decoded(saved(clear, "PNG", **options)) == 255).all()


@pytest.mark.parametrize(("bits", "channels"), [(12, 3), (8, 2), (16, 1)])
def test_a_jpeg_of_unusual_samples_is_one_all_the_same(bits: int, channels: int) -> None:
    whole = image(RED, kind="JPEG")
    at = whole.index(b"\xff\xc0") + 4
    unusual = whole[:at] + bytes([bits]) + whole[at + 1 : at + 5] + bytes([channels]) + whole[at + 6 :]
    with pytest.raises(
        UnsupportedFormat, match=f"^The JPEG has {channels} channels of {bits} bits; expected 1, 3 or 4"
    ):
        decoded(unusual)


_SCARCE = """
import resource, sys
from app.errors import OutOfMemory
from app.decoding.decoder import DecodeLimits, decode
payload = sys.stdin.buffer.read()
decode(open(sys.argv[1], "rb").read(), 3, 8, DecodeLimits(1 << 20, 1 << 20))
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (8 << 20),) * 2)
try:
    decode(payload, 3, 8, DecodeLimits(20 << 20, 50_000_000))
except OutOfMemory as error:
    print(error.status, error)
"""


@pytest.mark.process
def test_a_picture_that_there_is_no_memory_for_is_not_blamed(tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    small.write_bytes(image(RED))
    finished = subprocess.run(
        [sys.executable, "-c", _SCARCE, str(small)],
        input=image(RED, size=(3000, 3000)), cwd=ROOT, env=clean_environment(),
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert finished.stdout.decode() == (
        "503 The picture was not decoded: the service has no memory left for it. Try again later.\n"
    ), finished.stderr.decode()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_is_resolved(kind: str) -> None:
    painted = Image.new("P", (4, 4), 1)
    painted.putpalette([9, 9, 9, *GREEN])
    assert (decoded(saved(painted, kind)) == GREEN).all()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow: red
    assert np.abs(decoded(saved(ink, kind)).astype(int) - RED).max() <= 12


def test_sixteen_bits_become_eight() -> None:
    deep = Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))
    assert (decoded(saved(deep, "PNG")) == 128).all()
    assert (decoded(saved(deep, "TIFF"), channels=1) == 128).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    payload = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decoded(payload) == RED).all()


# --- what is embedded, and what is missing ---


def test_the_colors_of_a_profile_become_those_of_srgb_for_either_number_of_channels() -> None:
    orange, profile = Image.new("RGB", (64, 64), (200, 100, 50)), rgb_profile(DISPLAY_P3)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        payload = saved(orange, kind, icc_profile=profile)
        np.testing.assert_allclose(decoded(payload)[0, 0], (215, 93, 31), atol=3)
        np.testing.assert_allclose(decoded(payload, channels=1)[0, 0], 122, atol=1)  # without the profile, 124


def test_a_tiff_may_have_the_profile_of_a_press() -> None:
    profile = ink_profile(18)
    assert len(profile) > 600_000
    payload = saved(Image.new("CMYK", (64, 64), (0, 0, 0, 128)), "TIFF", icc_profile=profile)
    np.testing.assert_allclose(decoded(payload)[0, 0], 118, atol=1)


def test_a_jpeg_that_lacks_only_its_end_marker_is_seen_and_one_without_its_last_bytes_is_not() -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}):
        whole = saved(noise(64, 64), "JPEG", **options)
        np.testing.assert_array_equal(decoded(whole[:-2]), decoded(whole))
        with pytest.raises(BadImage, match="image file is truncated"):
            decoded(whole[:-12])


def test_a_webp_that_lacks_only_the_byte_behind_an_odd_chunk_is_seen() -> None:
    files = (saved(noise(11, 9, seed), "WEBP", lossless=True) for seed in range(50))
    whole = next(file for file in files if int.from_bytes(file[16:20], "little") % 2)
    np.testing.assert_array_equal(decoded(whole[:-1]), decoded(whole))
    with pytest.raises(BadImage):
        decoded(whole[:-2])


# --- what is refused ---


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_a_bad_picture(kind: str, share: float) -> None:
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    whole = saved(noise(64, 64), kind, **options)
    assert decoded(whole, useful_side=64).shape == (64, 64, 3)
    with pytest.raises(BadImage) as refused:
        decoded(whole[: max(1, int(len(whole) * share))], useful_side=64)
    assert "MeteredFile" not in str(refused.value)
    assert " object at 0x" not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_no_bytes_at_all_are_a_bad_picture() -> None:
    with pytest.raises(BadImage, match=r"^The picture has 0 bytes; expected an image file\.$"):
        decoded(b"")


def test_text_is_a_bad_picture_whose_first_bytes_are_shown() -> None:
    with pytest.raises(BadImage, match=r"starts with 48 65 6c 6c 6f 2c 20 77 and is no picture; expected JPEG, PNG"):
        decoded(b"Hello, world")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("PDF", b"%PDF-1.7\n"),
        ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("PSD", b"8BPS\x00\x01"),
        ("HEIC", b"\x00\x00\x00\x18ftypheic"),
        ("HEIF", b"\x00\x00\x00\x18ftypmif1"),
        ("AVIF", b"\x00\x00\x00\x1cftypavif"),
        ("JPEG XL", b"\xff\x0a\xfa\x1f"),
        ("JPEG 2000", b"\x00\x00\x00\x0cjP  \r\n\x87\n"),
        ("ICO", b"\x00\x00\x01\x00\x01\x00"),
        ("MP4", b"\x00\x00\x00\x20ftypisom"),
        ("ZIP", b"PK\x03\x04\x14\x00"),
    ],
)
def test_a_foreign_format_is_refused_by_its_name(name: str, head: bytes) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        decoded(head + bytes(64))
    assert str(refused.value) == f"The file is {name}; expected JPEG, PNG, WebP, GIF, BMP or TIFF."


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "PCX"])
def test_what_pillow_could_read_but_the_service_does_not_promise_is_refused(kind: str) -> None:
    with pytest.raises((BadImage, UnsupportedFormat), match="expected JPEG, PNG"):
        decoded(image(RED, kind=kind))


def test_a_file_over_the_limit_is_refused_by_its_size() -> None:
    payload = image(RED)
    limits = DecodeLimits(max_bytes=len(payload) - 1, max_pixels=64)
    with pytest.raises(TooManyBytes) as refused:
        decoded(payload, limits=limits)
    assert str(refused.value) == f"The picture has {len(payload)} bytes; expected at most {len(payload) - 1}."
    assert decoded(payload, limits=DecodeLimits(len(payload), 64)).shape == (8, 8, 3)


def test_pixels_are_counted_before_anything_is_decoded() -> None:
    with pytest.raises(TooManyPixels) as refused:
        decoded(png_declaring(8000, 8000))  # decoding it would fail otherwise: there is no data
    assert str(refused.value) == "The picture declares 8000 x 8000 pixels; expected at most 50000000 in all."
    with pytest.raises(TooManyPixels, match="8 x 8 pixels; expected at most 63 in all"):
        decoded(image(RED), limits=DecodeLimits(1000, 63))


@pytest.mark.parametrize("side", [14_000, 60_000, 2_000_000_000])
def test_what_pillow_itself_takes_for_a_bomb_has_too_many_pixels(side: int) -> None:
    with pytest.raises(TooManyPixels, match="far more than 50000000 pixels"):
        decoded(png_declaring(side, side))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # Pillow's own limit, below ours here
def test_between_pillows_warning_and_its_error_the_services_own_limit_counts() -> None:
    with pytest.raises(TooManyPixels, match="10000 x 10000 pixels"):
        decoded(png_declaring(10_000, 10_000))
    with pytest.raises(BadImage, match="cannot be decoded"):
        decoded(
            png_declaring(10_000, 10_000), limits=DecodeLimits(1000, 100_000_000, DecodeBudget(Quota(4_000_000_000)))
        )


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FORMATS), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_whatever_is_written_into_a_file_it_is_decoded_or_refused(kind: str, where: int, scribble: bytes) -> None:
    payload = bytearray(saved(noise(16, 16), kind))
    where %= len(payload)
    payload[where : where + len(scribble)] = scribble
    try:
        assert decoded(bytes(payload)).shape[2] == 3
    except ServiceError as refused:
        assert refused.status in (400, 413, 415)  # noqa: PT017 -- either outcome is right


# --- large JPEG files ---


def _waves(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    channels = [np.sin(x) * np.cos(y), np.cos(x + y), np.sin(x - y)]
    return Image.fromarray(np.stack([(channel + 1) * 127 for channel in channels], axis=-1).astype(np.uint8))


def _difference(payload: bytes, channels: int, side: int) -> NDArray[np.int64]:
    """How far the square of a picture decoded for that side is from that of the same one decoded whole."""
    fit = Fit(mode="stretch")
    reduced, full = (decoded(payload, channels, useful, ROOMY) for useful in (side, 65_536))
    assert reduced.size < full.size
    one, other = (to_square(pixels, side, fit, "bicubic").astype(np.int64) for pixels in (reduced, full))
    return np.abs(one - other)


@pytest.mark.parametrize(("size", "side"), [((1600, 1200), 28), ((1200, 1600), 64), ((1024, 1024), 64)])
def test_a_large_jpeg_is_decoded_at_reduced_scale_with_little_loss(size: tuple[int, int], side: int) -> None:
    payload = saved(_waves(*size), "JPEG", quality=95)
    pixels = decoded(payload, useful_side=side)
    assert min(pixels.shape[:2]) < min(size)
    assert min(pixels.shape[:2]) >= MARGIN * side
    difference = _difference(payload, 3, side)
    assert difference.mean() < 1.0
    assert difference.max() <= 12


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}, {"restart_marker_rows": 1},
        {"restart_marker_blocks": 5}, {"optimize": True}, {"quality": 30},
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_jpeg_loses_little(mode: str, channels: int, options: dict[str, Any]) -> None:
    payload = saved(_waves(640, 480).convert(mode), "JPEG", **{"quality": 90, **options})
    difference = _difference(payload, channels, 32)
    assert difference.mean() < 1.0
    assert difference.max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_that_lies_is_reduced_and_stands_up(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = saved(_waves(640, 480), "JPEG", quality=90, exif=exif)
    assert decoded(payload, useful_side=40).shape == ((80, 60, 3) if orientation >= 5 else (60, 80, 3))
    assert _difference(payload, 3, 40).mean() < 1.0


def _half_black(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, width // 2, height))
    return image


@pytest.mark.parametrize(
    ("size", "side", "shorter"),
    [
        ((640, 480), 48, 60),  # an eighth
        ((640, 480), 49, 120),  # an eighth would be less than 1.25 times the side
        ((634, 476), 40, 238),  # an eighth would stand for 640: half a pixel of 40 too many; a quarter for 636
        ((1601, 1201), 20, 151),  # of so many, seven do not matter
        ((641, 481), 40, 241),  # three would, and one does not
        ((60, 480), 25, 60),  # the shorter side counts
    ],
)
def test_how_far_a_jpeg_is_reduced(size: tuple[int, int], side: int, shorter: int) -> None:
    assert min(decoded(saved(_waves(*size), "JPEG"), useful_side=side, limits=ROOMY).shape[:2]) == shorter


@pytest.mark.parametrize("size", [(633, 473), (625, 601), (322, 333)])
def test_an_edge_stays_where_it_is(size: tuple[int, int]) -> None:
    payload = saved(_half_black(*size), "JPEG", quality=95)
    one, other = (to_square(decoded(payload, 1, side), 28, Fit(mode="stretch"), "box") for side in (28, 65_536))
    shift = np.abs(one.astype(int).sum(axis=1) - other.astype(int).sum(axis=1)).max() / 255
    assert shift <= 1 / 8


def test_a_jpeg_that_is_not_large_is_decoded_whole() -> None:
    assert decoded(saved(_waves(60, 40), "JPEG"), useful_side=24).shape == (40, 60, 3)


def test_a_large_grey_jpeg_is_reduced_too() -> None:
    pixels = decoded(saved(_waves(800, 800), "JPEG"), channels=1, useful_side=50)
    assert pixels.shape == (100, 100, 1)


def test_a_busy_thread_does_not_stand_in_the_way_of_a_large_jpeg() -> None:
    payload = saved(noise(3000, 3000), "JPEG", quality=90)
    pieces = len(payload) // (64 << 10)  # in which Pillow reads, if not told otherwise
    done = threading.Event()
    thread = threading.Thread(target=lambda: any(done.is_set() for _ in iter(int, 1)))
    before, interval_s = sys.getswitchinterval(), 0.05 * slowness_at_first()
    sys.setswitchinterval(interval_s)  # what the decoding thread waits whenever it wants to run Python again
    try:
        thread.start()
        started = time.perf_counter()
        assert decoded(payload, useful_side=300, limits=ROOMY).shape == (375, 375, 3)
        elapsed_s = time.perf_counter() - started
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()
    assert pieces >= 100
    assert elapsed_s < pieces * interval_s / 8
