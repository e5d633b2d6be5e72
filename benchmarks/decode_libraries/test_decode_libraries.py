"""benchmarks/decode_libraries: its choice of libraries, its arithmetic, its tables. Needs none of the libraries."""

import builtins
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.agreement import agreement
from benchmarks.decode_libraries import __main__ as bench
from benchmarks.decode_libraries import paths, tables, workloads
from benchmarks.decode_libraries.libraries import Missing, libraries
from benchmarks.decode_libraries.paths import Library
from benchmarks.serving.environments import constraints
from cli.bench.samples import scene
from cli.bench.stopwatch import Measured
from model.spec import Fit

ROOT = Path(__file__).resolve().parents[2]
SPEC = workloads.spec_of_224()


def file_of(width: int, height: int, kind: str, channels: int = 3) -> bytes:
    file = io.BytesIO()
    scene(width, height, channels, 0).save(file, kind, quality=90)
    return file.getvalue()


# --- the ways that need no library ---


@pytest.mark.parametrize(("size", "kind"), [((500, 375), "JPEG"), ((1200, 800), "JPEG"), ((300, 260), "PNG")])
def test_bare_pillow_makes_the_services_own_patches(size: tuple[int, int], kind: str):
    payload = file_of(*size, kind)
    assert np.array_equal(paths.pillow(payload, SPEC), paths.today(payload, SPEC))


def test_bare_pillow_leaves_what_is_more_than_a_central_square_to_the_service():
    spec = SPEC.model_copy(update={"channels": 1, "fit": Fit(background="black", frame="thing")})
    payload = file_of(240, 240, "PNG", channels=1)
    assert not paths.is_plain(spec)
    assert np.array_equal(paths.pillow(payload, spec), paths.today(payload, spec))


def test_a_library_that_knows_a_central_square_alone_is_asked_for_no_more():
    framed = SPEC.model_copy(update={"fit": Fit(background="black", frame="thing")})
    any_fit = Library("a", "Pillow", ("PNG",), paths.today)
    square = Library("b", "its own", ("PNG",), paths.today, any_fit=False)
    assert [any_fit.can("PNG", SPEC), any_fit.can("PNG", framed), any_fit.can("JPEG", SPEC)] == [True, True, False]
    assert [square.can("PNG", SPEC), square.can("PNG", framed)] == [True, False]


def test_a_head_tells_the_services_scale_of_a_jpeg_alone():
    assert paths.head_of(file_of(1200, 800, "JPEG"), SPEC, bare=False) == paths.Head(1200, 800, 2, is_jpeg=True)
    assert paths.head_of(file_of(1200, 800, "PNG"), SPEC, bare=True) == paths.Head(1200, 800, 1, is_jpeg=False)


def test_a_head_is_refused_as_by_the_service_unless_bare(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths, "LIMITS", paths.DecodeLimits(1 << 20, 1000))
    payload = file_of(100, 100, "PNG")
    with pytest.raises(paths.decoder.TooManyPixels, match="100 x 100 pixels; expected at most 1000"):
        paths.head_of(payload, SPEC, bare=False)
    assert paths.head_of(payload, SPEC, bare=True).width == 100


def test_a_box_in_whole_pixels_is_central():
    assert paths.whole_box(500, 375, 0.875) == (86, 23, 328, 329)
    assert paths.whole_box(300, 400, 1.0) == (0, 50, 300, 300)


@pytest.mark.parametrize(("shape", "channels"), [((4, 5), 1), ((4, 5, 3), 1), ((4, 5), 3), ((4, 5, 3), 3)])
def test_pixels_get_the_channels_that_the_model_has(shape: tuple[int, ...], channels: int):
    assert paths.in_channels(np.zeros(shape, np.uint8), channels).shape == (4, 5, channels)


def test_a_library_that_is_not_installed_is_missing_alone(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest: object):
        if name in ("simplejpeg", "turbojpeg", "pyvips", "kornia_rs", "imagecodecs", "cv2"):
            raise ImportError(f"No module named {name!r}\nmore words")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    found = list(libraries())
    assert next(one.name for one in found if isinstance(one, Library)) == paths.TODAY
    reasons = [one.reason for one in found if isinstance(one, Missing)]
    assert len(reasons) == 6
    assert reasons[0] == "simplejpeg: No module named 'simplejpeg'"


# --- what is asked for ---


def test_workloads_are_the_three_jpegs_the_pngs_and_the_photographs(tmp_path: Path):
    found = workloads.timed(SPEC, SPEC, [], tmp_path)
    names = ["28x28 PNG", "500x375 JPEG", "1600x1200 JPEG", "4032x3024 JPEG", "500x375 PNG", "4032x3024 PNG"]
    assert [one.name for one in found] == [*names, "photographs, JPEG"]
    assert all(one.kind in one.name for one in found)
    assert [one.name for one in bench.chosen(found, ["500x375"])] == ["500x375 JPEG", "500x375 PNG"]
    with pytest.raises(ValueError, match="--workloads is 'gif'; expected part of 28x28 PNG, "):
        bench.chosen(found, ["gif"])


def test_photographs_are_chosen_evenly_and_by_default_are_the_examples(tmp_path: Path):
    for number in range(10):
        (tmp_path / f"{number}.jpg").touch()
    assert [path.stem for path in workloads.photographs(tmp_path, 4)] == ["0", "2", "5", "7"]
    assert "skirt.jpg" in [path.name for path in workloads.photographs(None, 60)]


def test_photographs_are_remade_in_another_kind_and_size(tmp_path: Path):
    (tmp_path / "one.jpg").write_bytes(file_of(30, 40, "JPEG"))
    (as_png,) = workloads.remade([tmp_path / "one.jpg"], "PNG", None)
    (enlarged,) = workloads.remade([tmp_path / "one.jpg"], "JPEG", 400)
    with Image.open(io.BytesIO(as_png)) as png, Image.open(io.BytesIO(enlarged)) as jpeg:
        assert (png.format, png.size) == ("PNG", (30, 40))
        assert (jpeg.format, jpeg.size) == ("JPEG", (300, 400))


def test_what_computes_has_the_same_version_as_in_the_service():
    def pins(path: Path) -> dict[str, str]:
        lines = [line for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
        return {name.lower(): version for name, version in (line.split("==") for line in lines)}

    project, own = pins(ROOT / "constraints.txt"), pins(constraints(bench.ENVIRONMENT))
    for name in ("onnxruntime", "numpy", "pillow"):
        assert own[name] == project[name]
    assert {name.lower() for name in bench.PACKAGES} <= {name.replace("_", "-") for name in own}


def test_another_thread_runs_where_the_lock_is_let_go_of_and_hardly_where_it_is_kept():
    numbers, text = np.random.default_rng(0).random(1 << 20), b"ab" * (1 << 24)

    def lets_go() -> float:
        np.sort(numbers)
        return 1

    def keeps() -> float:
        text.count(b"aa")
        return 1

    assert bench.free_share(keeps, 0.1) < bench.free_share(lets_go, 0.1)


# --- what is told ---


def test_a_ratio_is_the_median_round_and_the_middle_half_is_told():
    today, other = Measured((100.0, 50.0, 100.0)), Measured((160.0, 80.0, 140.0))
    assert tables.speed_row("other", "Pillow", other, today, 1.875) == (
        "| other | Pillow | 7.14 | **1.60** (1.50 to 1.60) | 1.88 |"
    )


def test_a_library_is_named_from_one_and_a_half_times_on():
    found = {"today": Measured((10.0,)), "slow": Measured((14.9,)), "fast": Measured((15.0,))}
    assert tables.reaching(found, "today") == ["fast"]


def test_answers_are_told_as_shares_and_changes():
    today, other = np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    found = tables.difference([np.array([[0, 255]], np.uint8)], [np.array([[255, 254]], np.uint8)])
    assert found == tables.Difference(128.0, 255)
    assert tables.answers_row("other", agreement(today, other), found) == (
        "| other | 50.0% | 0.5000 | 0.2500 | 128.00, 255 |"
    )
