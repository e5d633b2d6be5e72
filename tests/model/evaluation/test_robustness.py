import json
import re
from pathlib import Path

import numpy as np
import pytest

from model.data.dataset import ImageSet
from model.errors import DataError
from model.evaluation.charts import charts_of
from model.evaluation.findings import Findings, findings_of, write_findings
from model.evaluation.robustness import evenly, measure_robustness, measure_unfamiliar
from model.evaluation.sections import sections_of
from model.preprocess import Pixels
from model.shifts.corruptions import CORRUPTIONS
from model.shifts.geometry import GEOMETRY
from model.shifts.unfamiliar import UNFAMILIAR
from model.spec import Fit, ModelSpec, Source

SPEC = ModelSpec(
    name="halves", image_size=16, patch_size=8, channels=1, num_classes=2, labels=("left", "<right>"),
    source=Source(origin="test"),
)  # fmt: skip


def which_half(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Logits by the brightness of each half."""
    means = pixels.reshape(len(pixels), 16, 2, 8).mean(axis=(1, 3), dtype=np.float32)
    return means / 20


@pytest.fixture(scope="module")
def images() -> ImageSet:
    labels = np.arange(70) % 2
    pixels = np.zeros((70, 16, 16, 1), dtype=np.uint8)
    for row, label in enumerate(labels):
        pixels[row, 4:12, 8 * label + 2 : 8 * label + 6] = 200
    return ImageSet(pixels, labels)


@pytest.fixture(scope="module")
def findings(images: ImageSet) -> Findings:
    robustness = measure_robustness(which_half, images, SPEC)
    logits = which_half(images.pixels).astype(np.float64)
    others = {"photos & 猫": np.full((5, 16, 16, 1), 128, dtype=np.uint8)}
    unfamiliar = measure_unfamiliar(which_half, logits, SPEC, others, num_generated=20)
    return findings_of(
        "halves, test", logits, images.labels, SPEC.labels, 1.0, robustness=robustness, unfamiliar=unfamiliar
    )


def test_a_model_of_halves_minds_a_mirror_and_nothing_that_leaves_halves(findings: Findings) -> None:
    robustness = findings.robustness
    assert robustness is not None
    assert (set(robustness.corruptions), set(robustness.geometry)) == (set(CORRUPTIONS), set(GEOMETRY))
    assert robustness.clean == 1.0
    assert (robustness.geometry["mirrored"], robustness.geometry["rotated by 180°"]) == (0.0, 0.0)
    assert robustness.geometry["scaled to 0.7"] == 1.0
    assert robustness.corruptions["contrast"] == (1.0,) * 5
    assert robustness.mean_corrupted == pytest.approx(np.mean(list(robustness.corruptions.values())))


def test_the_same_seed_gives_the_same(images: ImageSet, findings: Findings) -> None:
    told: list[tuple[int, int]] = []
    again = measure_robustness(which_half, images, SPEC, progress=lambda *done: told.append(done))
    assert again == findings.robustness
    total = 5 * len(CORRUPTIONS) + len(GEOMETRY) + 1
    assert told == [(one, total) for one in range(1, total + 1)]


def test_a_light_background_is_seen_as_the_service_sees_it(images: ImageSet) -> None:
    """Of a model that is served dark backgrounds only, a white one is inverted before it gets there."""
    dark = SPEC.model_copy(update={"fit": Fit(mode="crop", crop_percentage=0.9, background="dark")})
    seen: list[float] = []

    def watched(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        border = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1]], axis=1)
        seen.append(float(border.mean(axis=1).max()))
        return which_half(pixels)

    measure_robustness(watched, images, dark)
    assert max(seen) <= 127.5
    measure_robustness(watched, images, SPEC)
    assert max(seen) == 255


def test_some_of_many_are_taken_evenly(images: ImageSet) -> None:
    some = evenly(images, 7)
    assert len(some) == 7
    assert np.array_equal(some.pixels[-1], images.pixels[-1])
    assert evenly(images, 70) is images


def test_pictures_of_no_class_are_told_by_name(findings: Findings) -> None:
    assert findings.unfamiliar is not None
    assert list(findings.unfamiliar) == [*UNFAMILIAR, "photos & 猫"]
    assert findings.unfamiliar["photos & 猫"].num_pictures == 5


def test_json_has_everything_and_null_where_there_is_no_rate(tmp_path: Path, findings: Findings) -> None:
    write_findings(findings, tmp_path / "new" / "findings.json")
    text = (tmp_path / "new" / "findings.json").read_text(encoding="utf-8")
    assert Findings.model_validate_json(text) == findings
    alone = findings_of("left", np.array([[1.0, 0.0]]), np.array([0]), SPEC.labels, 1.0)
    write_findings(alone, tmp_path / "alone.json")
    assert json.loads((tmp_path / "alone.json").read_text(encoding="utf-8"))["classes"][1]["recall"] is None
    with pytest.raises(DataError, match="cannot be written"):
        write_findings(alone, tmp_path / "alone.json" / "x.json")


def test_charts_are_small_and_the_same_for_the_same_numbers(findings: Findings) -> None:
    charts = charts_of(findings)
    assert set(charts) == {"reliability", "risk-coverage", "corruptions", "geometry", "unfamiliar"}
    assert charts == charts_of(findings)
    for name, chart in charts.items():
        assert len(chart.encode()) < 60_000, name
        assert not re.search(r"<image|base64", chart)
    assert "photos &amp; 猫" in charts["unfamiliar"]


def test_sections_hold_what_was_measured(findings: Findings) -> None:
    page = "\n".join(sections_of(findings))
    assert "<td>mirrored</td><td>0.0%</td>" in page
    assert page.count("<svg") == 4
    bare = findings.model_copy(update={"robustness": None, "unfamiliar": None})
    assert "\n".join(sections_of(bare)).count("<svg") == 1
