import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.errors import DataError
from model.evaluate import reliability
from model.report import class_scores, confusion_matrix, write_report

LABELS = ("cat", "<dog>", "eel")
TRUTH = np.array([0, 0, 0, 1, 1], dtype=np.int64)
LOGITS = np.array([[2.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0], [2, 0, 0]])


def test_the_confusion_matrix_has_a_row_for_each_true_class() -> None:
    assert confusion_matrix(LOGITS.argmax(axis=1), TRUTH, 3).tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_precision_and_recall_by_hand() -> None:
    cat, dog, eel = class_scores(confusion_matrix(LOGITS.argmax(axis=1), TRUTH, 3), LABELS)
    assert (cat.label, cat.num_pictures, cat.precision, cat.recall) == ("cat", 3, 2 / 3, 2 / 3)
    assert (dog.num_pictures, dog.precision, dog.recall) == (2, 0.5, 0.5)
    assert eel.num_pictures == 0
    assert np.isnan([eel.precision, eel.recall]).all()


def test_reliability_groups_pictures_by_their_best_probability() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.55, 0.45]])
    low, high = reliability(probabilities, np.array([0, 1, 0]))
    assert (low.num_pictures, low.confidence, low.accuracy) == (1, 0.55, 1.0)
    assert (high.num_pictures, high.confidence, high.accuracy) == (2, pytest.approx(0.91), 0.5)


def test_the_report_is_one_page_with_figures_and_both_diagrams(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report", "pets & <co>", LABELS, LOGITS, TRUTH, temperature=2.0)
    page = path.read_text(encoding="utf-8")
    assert "5 pictures: top-1 60.00%, top-5 100.00%" in page
    assert "<td>&lt;dog&gt;</td><td>2</td><td>50.0%</td><td>50.0%</td>" in page
    assert "<td>eel</td><td>0</td><td>n/a</td><td>n/a</td>" in page
    assert "<h1>pets &amp; &lt;co&gt;</h1>" in page
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    files = [path.with_name(name) for name in ("confusion.png", "reliability.png")]
    assert [base64.b64decode(content) for content in embedded] == [file.read_bytes() for file in files]
    for file in files:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10, "something is drawn"


def test_many_classes_are_drawn_without_names(tmp_path: Path) -> None:
    count = 60
    logits = np.eye(count) * 3
    labels = tuple(f"class {index}" for index in range(count))
    assert write_report(tmp_path, "many", labels, logits, np.arange(count), 1.0).exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.report cannot be written"):
        write_report(tmp_path / "file" / "report", "pets", LABELS, LOGITS, TRUTH, 1.0)
