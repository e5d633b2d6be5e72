"""The codes of a lossless WebP are counted before libwebp builds them."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from app.decoding.decoder import DecodeLimits, decode
from app.decoding.webp import tables_bytes
from app.errors import BadImage, TooManyPixels
from tests.faults.hostile import noise, saved, webp_of_groups

GROUP = 600 + 4 * 2954  # without a cache of colours
LIMITS = DecodeLimits(20 << 20, 50_000_000)


@pytest.mark.parametrize("groups", [1, 2, 300, 4096])
def test_as_many_groups_as_there_are(groups: int) -> None:
    payload = webp_of_groups(256, groups)
    assert tables_bytes(payload) == groups * GROUP
    assert decode(payload, 3, 8, LIMITS).shape == (256, 256, 3)


def test_more_than_there_is_memory_for_are_refused() -> None:
    with pytest.raises(
        TooManyPixels, match="which take 836763648 bytes of memory to decode; expected at most 175000000"
    ):
        decode(webp_of_groups(1024, 65_536), 3, 8, LIMITS)


def _varied(width: int = 240, height: int = 200) -> Image.Image:
    """Quiet and noisy parts, so that an encoder makes groups, transforms and a cache."""
    rng = np.random.default_rng(2)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    rough = rng.normal(0, 1, (height, width, 3)) * (20 * (across > 0.5) + 60 * (down > 0.7))[:, :, None]
    smooth = np.stack([across * 200, down * 200, across * down * 255], axis=2)
    flat = (down < 0.2)[:, :, None]
    return Image.fromarray(
        np.where(flat, (across * 8).astype(int)[:, :, None] * 30, smooth + rough).clip(0, 255).astype("u1")
    )


@pytest.mark.parametrize(("method", "quality"), [(0, 0), (0, 100), (4, 75), (6, 75)])
def test_what_an_encoder_makes_is_read_to_its_groups(method: int, quality: int) -> None:
    images = [_varied(), _varied().quantize(3).convert("RGB"), _varied().quantize(14).convert("RGB"), noise(100)]
    for image in images:
        payload = saved(image, "WEBP", lossless=True, method=method, quality=quality)
        assert 0 <= tables_bytes(payload) < 1000 * GROUP
        with_alpha = image.convert("RGBA")
        with_alpha.putalpha(image.convert("L"))
        for options in ({"lossless": True, "exact": True}, {"quality": 80, "alpha_quality": quality}):
            assert 0 <= tables_bytes(saved(with_alpha, "WEBP", method=method, **options)) < 1000 * GROUP


def test_some_of_them_have_several_groups() -> None:
    counted = [tables_bytes(saved(_varied(width), "WEBP", lossless=True, method=6)) for width in (400, 800)]
    assert max(counted) > 2 * GROUP


def test_what_is_transparent_and_frames_are_looked_into() -> None:
    inside = webp_of_groups(256, 4096)[20:]
    alpha = b"\1" + inside[5:]  # without the size
    canvas = struct.pack("<I", 0x10) + (255).to_bytes(3, "little") * 2
    frame = bytes(6) + (255).to_bytes(3, "little") * 2 + bytes(4)
    chunks = {"alpha": _chunk(b"ALPH", alpha), "frame": _chunk(b"ANMF", frame + _chunk(b"VP8L", inside))}
    for name, part in chunks.items():
        content = b"WEBP" + _chunk(b"VP8X", canvas) + _chunk(b"ICCP", b"odd") + part + _chunk(b"VP8 ", b"")
        assert tables_bytes(_chunk(b"RIFF", content)) == 4096 * GROUP, name
    lossy = saved(Image.new("RGB", (300, 300)), "WEBP")
    assert tables_bytes(lossy) == 0


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def test_blocks_and_chunks_are_limited() -> None:
    with pytest.raises(BadImage, match="coded in more than 100000 blocks, the most expected"):
        tables_bytes(webp_of_groups(1268, 2))
    start = webp_of_groups(16, 2)[:12]
    with pytest.raises(BadImage, match="more than 1000 chunks before its first picture"):
        tables_bytes(start + _chunk(b"XMP ", b"") * 1001)


@pytest.mark.parametrize("seed", range(50))
def test_bits_that_mean_nothing_are_refused_or_harmless(seed: int) -> None:
    junk = np.random.default_rng(seed).bytes(400)
    payload = webp_of_groups(64, 3)[:25] + junk
    with suppress(BadImage):
        assert tables_bytes(payload) < 1 << 32
