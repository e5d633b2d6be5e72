"""What decoding costs, told from the header: memory by format and mode, scans, reads, and who waits for memory."""

import io
import subprocess
import sys
import threading

import pytest
from PIL import Image

from app.decoding.cost_checks import (
    DecodeBudget,
    MeteredFile,
    coefficient_bytes,
    decoding_bytes,
    expect_affordable,
    expect_few_scans,
    is_soon_read,
)
from app.decoding.decoder import DecodeLimits, decode
from app.decoding.jpeg import Scans
from app.errors import BadImage, TooManyPixels
from app.system.quota import Quota
from tests.app.color_bundle import RED, image
from tests.app.servers import ROOT, clean_environment


def opened(payload: bytes) -> Image.Image:
    return Image.open(MeteredFile(payload))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "per_pixel"),
    [
        ("1", "PNG", 12), ("L", "PNG", 12), ("P", "GIF", 14), ("RGB", "PNG", 14), ("RGB", "JPEG", 14),
        ("RGBA", "PNG", 18), ("LA", "PNG", 18), ("I;16", "PNG", 36), ("RGB", "WEBP", 22), ("RGBA", "WEBP", 26),
        ("RGB", "TIFF", 18), ("CMYK", "TIFF", 22), ("F", "TIFF", 42), ("RGB", "BMP", 14),
    ],
)  # fmt: skip
def test_memory_depends_on_format_and_mode(mode: str, kind: str, per_pixel: int) -> None:
    image = Image.new(mode, (40, 30), 0)
    if mode == "RGBA":
        image.putpixel((0, 0), (1, 2, 3, 4))  # or the format would leave out what says nothing
    assert decoding_bytes(opened(saved(image, kind))) == 40 * 30 * per_pixel


def test_half_of_the_memory_is_one_pictures_at_most() -> None:
    payload = image(RED)  # 8 x 8 x 14 bytes
    assert decode(payload, 3, 8, DecodeLimits(1000, 64, DecodeBudget(Quota(1792)))).shape == (8, 8, 3)
    with pytest.raises(TooManyPixels) as refused:
        decode(payload, 3, 8, DecodeLimits(1000, 64, DecodeBudget(Quota(1790))))
    assert str(refused.value) == (
        "The picture declares 8 x 8 pixels in mode RGB, which take 896 bytes of memory to decode; expected at most 895."
    )


def test_a_jpeg_that_is_decoded_at_reduced_scale_needs_memory_for_that_scale_only() -> None:
    large = saved(Image.new("RGB", (1600, 1600)), "JPEG")
    limits = DecodeLimits(1 << 20, 10_000_000, DecodeBudget(Quota(2 * 200 * 200 * 14)))
    assert decode(large, 3, 100, limits).shape == (200, 200, 3)


def test_a_jpeg_of_several_scans_needs_memory_for_all_of_its_coefficients() -> None:
    payload = saved(Image.new("RGB", (80, 60)), "JPEG", progressive=True)
    image = opened(payload)
    scans = expect_affordable(image, payload).number
    assert scans > 1
    assert coefficient_bytes(image, scans) == 80 * 60 * 3 * 2
    assert coefficient_bytes(image, 1) == 0


def test_scans_are_limited_by_the_pixels_they_go_over() -> None:
    image = Image.new("L", (1000, 1000))
    expect_few_scans(image, Scans(700))
    with pytest.raises(
        TooManyPixels, match="701 scans of 1000 x 1000 pixels; expected at most 700000000 pixels in all"
    ):
        expect_few_scans(image, Scans(701))


def test_what_takes_longer_to_go_over_counts_for_more() -> None:
    image = Image.new("L", (1000, 1000))
    expect_few_scans(image, Scans(46, 15))
    with pytest.raises(TooManyPixels, match="47 scans of 1000 x 1000 pixels, each of which counts 15 times; expected"):
        expect_few_scans(image, Scans(47, 15))


@pytest.mark.parametrize(("start", "reads"), [(b"\x89PNG", 100_000), (b"BM", 100_000)])
def test_a_file_can_be_read_so_often_and_no_more(start: bytes, reads: int) -> None:
    file = MeteredFile(start.ljust(600_000, b"\0"))
    for _ in range(reads):
        file.read(1)
    with pytest.raises(BadImage, match=f"in more than {reads} pieces"):
        file.read(1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_small_file_cannot_be_read_too_often_and_is_not_counted(kind: str) -> None:
    payload = saved(Image.new("RGB", (40, 30)), kind)
    assert is_soon_read(payload)
    file = MeteredFile(payload)
    Image.open(file).load()
    assert file.reads <= len(payload)
    assert not is_soon_read(payload.ljust(100_001, b"\0"))


def test_a_tiff_is_counted_however_small() -> None:
    assert not is_soon_read(saved(Image.new("RGB", (4, 4)), "TIFF"))


def test_tags_are_limited_until_the_pixels_begin() -> None:
    payload = b"II" + bytes(2_000_000)
    file = MeteredFile(payload)
    file.read(512 << 10)
    with pytest.raises(BadImage, match="more than 524288 bytes of tags"):
        file.read(1)
    file = MeteredFile(payload)
    file.opened()
    assert file.read() == payload


def test_blocks_of_a_strip_are_counted_as_often_as_they_are_copied() -> None:
    file = MeteredFile(b"II" + bytes(2_000_000))
    file.opened()
    for _ in range(100):  # strips in one piece
        file.seek(2)
        file.read(2_000_000)
    for _ in range(11):  # and in four: half a million bytes, a million, and so on
        file.seek(2)
        for _ in range(4):
            file.read(500_000)
    file.seek(2)
    with pytest.raises(BadImage, match="The strips of the file take more than 256000000 bytes of reading, the most"):
        file.read(2_000_000)


def test_who_needs_more_memory_than_is_left_waits_for_it() -> None:
    budget, order = DecodeBudget(Quota(100)), []
    inside, waited = threading.Event(), threading.Event()

    def second() -> None:
        inside.wait(10)
        with budget.taken(60):
            order.append("second")
        waited.set()

    thread = threading.Thread(target=second)
    thread.start()
    with budget.taken(60):
        with budget.taken(40):  # what is left
            inside.set()
        order.append("first")
    assert waited.wait(10)
    thread.join()
    assert order == ["first", "second"]


def test_memory_is_free_again_after_a_failure() -> None:
    budget = DecodeBudget(Quota(100))
    with pytest.raises(ZeroDivisionError), budget.taken(100):
        raise ZeroDivisionError
    with budget.taken(100):
        pass


_TWO_PROCESSES = """
import mmap, os, signal, time
from app.decoding.cost_checks import DecodeBudget
from app.system.quota import Quota

shares, signs = (memoryview(mmap.mmap(-1, 16)).cast("d") for _ in range(2))
LOOKS, GIVEN_BACK = 0, 1

class Watched(Quota):
    def try_take(self, count):
        there_was_room = super().try_take(count)
        signs[LOOKS] += not there_was_room
        return there_was_room

def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)

child = os.fork()
signal.alarm(90)  # a failed test leaves none behind
if child:
    with DecodeBudget(Quota(100, shares, 0)).taken(60):
        until(lambda: signs[LOOKS] >= 3)
        signs[GIVEN_BACK] = 1
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), sum(shares))
else:
    until(lambda: shares[0])
    with DecodeBudget(Watched(100, shares, 1)).taken(60):
        os._exit(0 if signs[GIVEN_BACK] else 1)  # and its share with it, which a supervisor takes back
"""


@pytest.mark.process
def test_who_waits_for_memory_of_another_process_gets_it_when_it_is_given_back() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", _TWO_PROCESSES],
        cwd=ROOT, env=clean_environment(), capture_output=True, check=True, text=True, timeout=100,
    )  # fmt: skip
    assert finished.stdout == "0 60.0\n"
