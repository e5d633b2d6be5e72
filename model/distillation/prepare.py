"""`mixer lessons`: pictures and a teacher in, a folder of lessons out. Knows nothing of the terminal."""

from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import nn

from model.data.layout import expect_outside, read_labels
from model.distillation.bank import Bank, read_bank
from model.distillation.fine_tuning import ENDING, Tuning, fine_tuned, read_ending, write_ending
from model.distillation.head import HEAD, Head, fit_head
from model.distillation.lessons import CODES, LessonWriter, Progress, are_all_there, read_lessons
from model.distillation.options import LessonOptions
from model.distillation.teacher import SIDE, FeatureTeacher
from model.distillation.views import Variation
from model.errors import TrainingError


def prepare(
    options: LessonOptions,
    on_note: Callable[[str], None],
    on_reading: Progress,
    on_lesson: Progress,
    on_tuning: Progress = lambda done, total: None,
) -> None:
    """Read the pictures, and write lessons and the teacher's head. Raises MixerError of every kind."""
    expect_outside(options.lessons, options.data)
    _expect_same_teacher(options)
    labels = read_labels(options.labels) if options.labels is not None else None
    if labels is not None and options.data.is_dir() and _is_done(options, labels):
        on_note(f"{options.lessons} has all of {options.count} lessons: nothing is read or made")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = FeatureTeacher(device)
    others: list[Path] = [] if options.others is None else [options.others]
    bank = read_bank(options.data, others, SIDE, labels, options.seed, on_reading, on_note).to(device)
    if (ending := _ending(options, teacher, bank, on_note, on_tuning)) is not None:
        teacher.take_ending(ending)
    known = int((bank.labels >= 0).sum())
    on_note(f"{known} pictures with one of {len(bank.names)} labels, {len(bank) - known} without")
    writer = LessonWriter(bank, teacher, options.image_size, options.labelled, Variation(), seed=options.seed)
    (options.lessons / HEAD).unlink(missing_ok=True)  # it is there where it was fitted to all lessons
    writer.write(options.lessons, options.count, on_lesson)
    fit_head(read_lessons(options.lessons), len(bank.names)).write(options.lessons)
    on_note(f"{options.lessons / HEAD}: the teacher's classifier for these labels")


def _is_done(options: LessonOptions, labels: Sequence[str]) -> bool:
    """Whether all lessons are there, and the head that was fitted to them."""
    if not are_all_there(options.lessons, options.count, labels):
        return False
    try:
        Head.read(options.lessons)
    except (OSError, ValueError, KeyError, BadZipFile):
        return False
    return True


def _expect_same_teacher(options: LessonOptions) -> None:
    """Raises TrainingError where the lessons that are there are of a teacher with other last blocks."""
    folder = options.lessons
    is_tuned = (folder / ENDING).exists()
    if (is_tuned or (folder / CODES).exists()) and is_tuned != bool(options.fine_tune):
        words = ("is fine-tuned", "--fine-tune") if is_tuned else ("was not fine-tuned", "no --fine-tune")
        raise TrainingError(
            f"{folder} holds lessons of a teacher that {words[0]}; expected {words[1]}, or another folder."
        )


def _ending(
    options: LessonOptions, teacher: FeatureTeacher, bank: Bank, on_note: Callable[[str], None], on_tuning: Progress
) -> nn.Module | None:
    """The teacher's last blocks as all lessons of the folder have them; None: as they came.

    Raises DataError where DATA has no val/.
    """
    folder = options.lessons
    if not options.fine_tune:
        return None
    if (folder / ENDING).exists():
        return read_ending(teacher.ending, folder)
    judged_by = read_bank(options.data, [], SIDE, bank.names, options.seed, split="val").to(bank.labels.device)
    tuning = Tuning(views=options.fine_tune, seed=options.seed)
    ending = fine_tuned(teacher, bank, judged_by, tuning, on_tuning, on_note)
    folder.mkdir(parents=True, exist_ok=True)
    write_ending(ending, folder)
    return ending
