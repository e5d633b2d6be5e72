import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.dataset import ImageSet
from model.errors import DataError
from model.evaluation.evaluate import reliability
from model.evaluation.report import write_report

LABELS = ("cat", "<dog>", "eel")
TRUTH = np.array([0, 0, 0, 1, 1], dtype=np.int64)
PATHS = tuple(Path(f"pets/{index}.jpg") for index in range(5))
IMAGES = ImageSet(np.zeros((5, 8, 8, 3), dtype=np.uint8), TRUTH, PATHS)
LOGITS = np.array([[2.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0], [2, 0, 0]])


def test_reliability_groups_pictures_by_their_best_probability() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.55, 0.45]])
    low, high = reliability(probabilities, np.array([0, 1, 0]))
    assert (low.num_pictures, low.confidence, low.accuracy) == (1, 0.55, 1.0)
    assert (high.num_pictures, high.confidence, high.accuracy) == (2, pytest.approx(0.91), 0.5)


def test_the_report_is_one_page_with_figures_and_both_diagrams(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report", "pets & <co>", LABELS, LOGITS, IMAGES, temperature=2.0)
    page = path.read_text(encoding="utf-8")
    assert "5 pictures of 2 of the 3 classes: top-1 60.00% (95 % interval 23.1% to 88.2%), top-5 100.00%" in page
    assert "<td>&lt;dog&gt;</td><td>2</td><td>50.0%</td><td>50.0%</td><td>50.0%</td>" in page
    assert "<p>1 without a picture here: eel</p>" in page
    assert "<h1>pets &amp; &lt;co&gt;</h1>" in page
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = [path.with_name(name) for name in ("confusion.png", "reliability.png")]
    assert [base64.b64decode(content) for content in embedded] == [file.read_bytes() for file in files]
    for file in files:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10, "something is drawn"


def test_the_report_has_the_worst_class_first_and_the_most_confused_pairs(tmp_path: Path) -> None:
    page = write_report(tmp_path, "pets", LABELS, LOGITS, IMAGES, 1.0).read_text(encoding="utf-8")
    assert page.index("<td>&lt;dog&gt;</td><td>2</td>") < page.index("<td>cat</td><td>3</td>")
    assert "<td>&lt;dog&gt;</td><td>cat</td><td>1</td><td>50.0%</td>" in page


def test_the_report_shows_every_wrong_picture_with_its_path_and_both_labels(tmp_path: Path) -> None:
    logits = LOGITS.copy()
    logits[4] *= 3
    page = write_report(tmp_path, "pets", LABELS, logits, IMAGES, 1.0).read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == ["cat 99.5%, not &lt;dog&gt;<br>pets/4.jpg", "&lt;dog&gt; 78.7%, not cat<br>pets/2.jpg"]
    assert page.count("data:image/jpeg;base64,") == 2


def test_of_many_wrong_pictures_the_surest_are_shown(tmp_path: Path) -> None:
    logits = np.stack([np.linspace(1, 5, 100), np.zeros(100)], axis=1)
    images = ImageSet(np.zeros((100, 8, 8, 1), dtype=np.uint8), np.ones(100, dtype=np.int64))
    page = write_report(tmp_path, "pets", ("cat", "dog"), logits, images, 1.0).read_text(encoding="utf-8")
    assert "Wrong pictures: the 60 surest of 100" in page
    shown = re.findall(r"<br>picture (\d+)</figcaption>", page)
    assert shown == [str(index) for index in range(99, 39, -1)]


def test_the_report_has_the_settings_and_a_table_of_all_answers(tmp_path: Path) -> None:
    page = write_report(tmp_path, "pets", LABELS, LOGITS, IMAGES, 1.0, {"temperature": "1 & a bit"})
    assert "<td>temperature</td><td>1 &amp; a bit</td>" in page.read_text(encoding="utf-8")
    lines = page.with_name("predictions.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "picture,true,predicted,probability"
    assert lines[3] == "pets/2.jpg,cat,<dog>,0.786986"
    assert len(lines) == 6


def test_a_path_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    paths = (*PATHS[:2], Path("pets/caf\udce9\n.jpg"), *PATHS[3:])
    images = ImageSet(IMAGES.pixels, TRUTH, paths)
    page = write_report(tmp_path, "pets", LABELS, LOGITS, images, 1.0).read_text(encoding="utf-8")
    assert r"pets/caf\xe9\n.jpg" in page


@pytest.mark.heavy
def test_the_report_of_two_hundred_classes_is_no_longer_than_that_of_forty(tmp_path: Path) -> None:
    """Tables scroll, and the diagram has the classes that are confused most."""
    heights = []
    for count in (40, 200):
        labels = tuple(f"class {index}" for index in range(count))
        images = ImageSet(np.zeros((count, 8, 8, 1), dtype=np.uint8), np.arange(count))
        page = write_report(tmp_path / str(count), "many", labels, np.roll(np.eye(count), 1, axis=0), images, 1.0)
        text = page.read_text(encoding="utf-8")
        assert text.count('<div class="long">') == text.count("<table")
        with Image.open(page.with_name("confusion.png")) as image:
            heights.append(image.height)
    assert heights[1] <= heights[0]


@pytest.mark.parametrize("label", ["$a$b", "\u732b", "x" * 200])
def test_labels_of_any_kind_are_drawn_without_a_warning(tmp_path: Path, label: str) -> None:
    assert write_report(tmp_path, "odd", (label, "dog", "eel"), LOGITS, IMAGES, 1.0).exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.report cannot be written"):
        write_report(tmp_path / "file" / "report", "pets", LABELS, LOGITS, IMAGES, 1.0)
