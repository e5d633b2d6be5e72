"""Stored lessons: codes, files, what a killed run leaves, and the teacher's head."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.distillation.bank import Bank
from model.distillation.codes import Codes
from model.distillation.head import Head, fit_head, is_labelled
from model.distillation.lessons import LessonWriter, read_codes, read_lessons
from model.distillation.views import Variation
from model.errors import TrainingError
from tests.model.distillation.conftest import PER_FILE, ColorTeacher


def test_codes_give_the_maps_back_up_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(500, 4, generator=generator) @ torch.randn(4, 20, generator=generator) + 3
    codes = Codes.fitted(maps, 4)  # as many as there are directions
    assert codes.basis.T @ codes.basis == pytest.approx(torch.eye(4), abs=1e-5)
    assert (codes.deviations.diff() <= 0).all()
    said = codes.encode(maps).float() / 25 * codes.deviations
    assert (said @ codes.basis.T + codes.mean - maps).abs().max() < 0.1 * maps.std()


def test_lessons_hold_every_view_with_what_the_teacher_saw(lessons_folder: Path) -> None:
    lessons = read_lessons(lessons_folder)
    middle, late = read_codes(lessons_folder)
    assert len(lessons) == 4 * PER_FILE
    assert lessons.images.shape == (4 * PER_FILE, 32, 32, 3)
    assert lessons.middle.shape[1:] == (12, 12, len(middle.deviations))
    assert lessons.late.shape[1:] == (6, 6, len(late.deviations))
    assert lessons.features.dtype == torch.float16
    share = is_labelled(lessons).float().mean().item()
    assert 0.5 < share < 0.85  # 0.7 was asked for


def test_a_run_that_was_killed_writes_only_what_is_missing(bank: Bank, lessons_folder: Path, tmp_path: Path) -> None:
    teacher = ColorTeacher()
    writer = LessonWriter(bank, teacher, 32, 0.7, Variation(), per_file=PER_FILE)
    (tmp_path / "codes.npz").write_bytes((lessons_folder / "codes.npz").read_bytes())
    (tmp_path / "00000.npz").write_bytes((lessons_folder / "00000.npz").read_bytes())
    writer.write(tmp_path, 2 * PER_FILE)
    assert teacher.seen == PER_FILE
    with np.load(tmp_path / "00001.npz") as new, np.load(lessons_folder / "00001.npz") as before:
        assert all((new[name] == before[name]).all() for name in before.files)


def test_another_seed_gives_other_lessons(bank: Bank, lessons_folder: Path, tmp_path: Path) -> None:
    LessonWriter(bank, ColorTeacher(), 32, 0.7, Variation(), per_file=PER_FILE, seed=1).write(tmp_path, PER_FILE)
    with np.load(tmp_path / "00000.npz") as new, np.load(lessons_folder / "00000.npz") as before:
        assert (new["images"] != before["images"]).any()


def test_lessons_of_other_classes_are_not_mixed_in(bank: Bank, lessons_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("light\ndark\n")
    writer = LessonWriter(bank, ColorTeacher(), 32, 0.7, Variation(), per_file=PER_FILE)
    with pytest.raises(TrainingError, match="light, dark; these are dark, light"):
        writer.write(tmp_path, PER_FILE)


def test_a_broken_file_is_named(lessons_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "00000.npz").write_bytes(b"half of it")
    with pytest.raises(TrainingError, match=r"00000\.npz"):
        read_lessons(tmp_path)


@pytest.mark.parametrize("read", [read_lessons, read_codes])
def test_a_folder_without_lessons_is_refused(read, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainingError, match="mixer lessons"):
        read(tmp_path)


def test_the_head_tells_the_labels_from_the_features(lessons_folder: Path, tmp_path: Path) -> None:
    lessons = read_lessons(lessons_folder)
    head = fit_head(lessons, 2, epochs=60)
    plain = is_labelled(lessons) & (lessons.shares == 1)
    told = head.logits(lessons.features[plain]).argmax(1)
    assert (told == lessons.labels[plain]).float().mean() > 0.75  # some views are dark of themselves
    head.write(tmp_path)
    assert torch.equal(Head.read(tmp_path).logits(lessons.features), head.logits(lessons.features))
