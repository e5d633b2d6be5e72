"""`mixer lessons`: pictures and a teacher in, a folder of lessons out. Knows nothing of the terminal."""

from collections.abc import Callable
from pathlib import Path

import torch

from model.data.layout import expect_outside, read_labels
from model.distillation.bank import read_bank
from model.distillation.head import HEAD, fit_head
from model.distillation.lessons import LessonWriter, Progress, read_lessons
from model.distillation.options import LessonOptions
from model.distillation.teacher import SIDE, FeatureTeacher
from model.distillation.views import Variation


def prepare(options: LessonOptions, on_note: Callable[[str], None], on_reading: Progress, on_lesson: Progress) -> None:
    """Read the pictures, and write lessons and the teacher's head. Raises MixerError of every kind."""
    expect_outside(options.lessons, options.data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = FeatureTeacher(device)
    labels = read_labels(options.labels) if options.labels is not None else None
    others: list[Path] = [] if options.others is None else [options.others]
    bank = read_bank(options.data, others, SIDE, labels, options.seed, on_reading, on_note).to(device)
    known = int((bank.labels >= 0).sum())
    on_note(f"{known} pictures with one of {len(bank.names)} labels, {len(bank) - known} without")
    writer = LessonWriter(bank, teacher, options.image_size, options.labelled, Variation(), seed=options.seed)
    writer.write(options.lessons, options.count, on_lesson)
    fit_head(read_lessons(options.lessons), len(bank.names)).write(options.lessons)
    on_note(f"{options.lessons / HEAD}: the teacher's classifier for these labels")
