"""The teacher's last blocks: trained where that gains, left alone where it does not, kept beside the lessons."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.distillation import prepare as prepared
from model.distillation.bank import Bank, read_bank
from model.distillation.fine_tuning import ENDING, Tuning, fine_tuned, read_ending, write_ending
from model.distillation.head import HEAD
from model.distillation.lessons import LABELS, LessonWriter, read_lessons
from model.distillation.options import LessonOptions
from model.distillation.teacher import FEATURES, LATE_CHANNELS, SIDE, FeatureTeacher, Maps
from model.errors import DataError, TrainingError
from tests.model.distillation.conftest import PER_FILE, ColorTeacher, write_pictures


class Blind(nn.Module):
    """Last blocks whose features say nothing of what enters, until they are trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.last = nn.Conv2d(3, LATE_CHANNELS, 1)
        self.features = nn.Linear(LATE_CHANNELS, FEATURES)
        nn.init.zeros_(self.last.weight)

    def forward(self, entering: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.last(entering)
        return maps, self.features(maps.mean((2, 3)))


class BlindTeacher(ColorTeacher):
    """Sees the colors of places, and its last blocks what they make of them."""

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.ending: nn.Module = Blind()

    def enter(self, pixels: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(pixels.float() / 255, 6)

    def take_ending(self, ending: nn.Module) -> None:
        self.ending = ending

    def see(self, pixels: Tensor) -> Maps:
        late, features = self.ending(self.enter(pixels))
        return super().see(pixels)._replace(late=late.permute(0, 2, 3, 1).detach(), features=features.detach())


@pytest.fixture(scope="module")
def judges(data: Path) -> Bank:
    return read_bank(data, [], SIDE, split="val")


TUNING = Tuning(views=2, passes=20, rate=3e-3)  # 22 steps


def test_blocks_that_answer_better_when_trained_are_kept_and_it_is_said(bank: Bank, judges: Bank) -> None:
    teacher, said = BlindTeacher(), list[str]()
    ending = fine_tuned(teacher, bank, judges, TUNING, on_note=said.append)
    assert ending is not teacher.ending
    assert not any(weight.requires_grad for weight in ending.parameters())
    (line,) = said
    assert "on 16 validation pictures: fine-tuned it is" in line
    assert all(
        torch.equal(mine, new) for mine, new in zip(teacher.ending.parameters(), Blind().parameters(), strict=True)
    )


def test_blocks_that_answer_no_better_stay_as_they_were(bank: Bank, judges: Bank) -> None:
    teacher, said = BlindTeacher(), list[str]()
    wrong = Bank(bank.pixels, (1 - bank.labels).where(bank.labels >= 0, -1), bank.aspects, bank.backgrounds, bank.names)
    assert fine_tuned(teacher, wrong, judges, TUNING, on_note=said.append) is teacher.ending
    assert said[0].endswith("it stays as it was")


def test_one_seed_gives_one_ending_and_progress_goes_to_the_end(bank: Bank, judges: Bank) -> None:
    steps: list[tuple[int, int]] = []
    tuning = Tuning(views=1, passes=5, rate=3e-3)
    endings = [
        fine_tuned(BlindTeacher(), bank, judges, tuning, lambda done, of: steps.append((done, of))) for _ in range(2)
    ]
    first, second = (list(ending.state_dict().values()) for ending in endings)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert steps[-1][0] == steps[-1][1] > 1


def test_an_ending_is_read_as_it_was_written_and_another_file_is_named(tmp_path: Path) -> None:
    ending = Blind()
    write_ending(ending, tmp_path)
    with torch.no_grad():
        like = Blind()
        like.last.weight.zero_()
    assert torch.equal(read_ending(like, tmp_path).state_dict()["last.weight"], ending.last.weight)
    assert not like.last.weight.any()
    for content in (b"half of it", b""):
        (tmp_path / ENDING).write_bytes(content)
        with pytest.raises(TrainingError, match=r"ending\.pt cannot be read as the teacher's last blocks"):
            read_ending(ending, tmp_path)
    torch.save({"other": torch.zeros(1)}, tmp_path / ENDING)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_ending(ending, tmp_path)


@pytest.fixture
def options(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LessonOptions:
    monkeypatch.setattr(prepared, "FeatureTeacher", BlindTeacher)
    monkeypatch.setattr(prepared, "Tuning", lambda views, seed: TUNING)
    monkeypatch.setattr(prepared, "LessonWriter", partial(LessonWriter, per_file=PER_FILE))
    monkeypatch.setattr("model.distillation.lessons._TO_FIT_CODES", 64)
    return LessonOptions(data=data, lessons=tmp_path / "lessons", count=PER_FILE, image_size=32, fine_tune=4)


def _prepare(options: LessonOptions) -> list[str]:
    said: list[str] = []
    prepared.prepare(options, said.append, lambda done, total: None, lambda done, total: None)
    return said


def test_lessons_are_what_the_fine_tuned_teacher_sees_and_a_run_goes_on_with_it(options: LessonOptions) -> None:
    assert any("fine-tuned it is" in line for line in _prepare(options))
    before = read_lessons(options.lessons)
    (options.lessons / "00000.npz").unlink()
    assert not any("fine-tuned" in line for line in _prepare(options))  # it is there already
    assert torch.equal(read_lessons(options.lessons).features, before.features)


def test_where_all_lessons_are_there_no_picture_is_read(
    options: LessonOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(options)
    labels, other = options.lessons / LABELS, tmp_path / "other.txt"
    other.write_text("cat\n")
    again = options.model_copy(update={"labels": labels})
    monkeypatch.setattr(prepared, "read_bank", lambda *_: pytest.fail("a picture was read"))
    assert _prepare(again) == [f"{options.lessons} has all of {PER_FILE} lessons: nothing is read or made"]
    for unlike in ({"count": 3 * 2048}, {"labels": other}, {"labels": None}, {"data": tmp_path / "gone"}):
        with pytest.raises(pytest.fail.Exception):
            _prepare(again.model_copy(update=unlike))
    (options.lessons / HEAD).write_bytes(b"half of it")
    with pytest.raises(pytest.fail.Exception):
        _prepare(again)


def test_a_head_that_is_there_was_fitted_to_all_lessons(
    options: LessonOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(options)
    (options.lessons / "00000.npz").unlink()
    with monkeypatch.context() as killed:
        killed.setattr(prepared, "fit_head", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            _prepare(options)
    assert not (options.lessons / HEAD).exists()


def test_lessons_of_two_teachers_are_not_mixed(options: LessonOptions) -> None:
    plain = options.model_copy(update={"fine_tune": 0})
    _prepare(plain)
    with pytest.raises(TrainingError, match="was not fine-tuned; expected no --fine-tune, or another folder"):
        _prepare(options)
    (options.lessons / "codes.npz").unlink()
    _prepare(options)
    with pytest.raises(TrainingError, match="is fine-tuned; expected --fine-tune, or another folder"):
        _prepare(plain)


@pytest.mark.parametrize("content", ["nothing", "no class folders"])
def test_without_validation_pictures_there_is_nothing_to_judge_by(
    content: str, options: LessonOptions, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "own", "train", 2)
    if content == "no class folders":
        (tmp_path / "own" / "val").mkdir()
    with pytest.raises(DataError, match="own has no val/ with class folders; expected it"):
        _prepare(options.model_copy(update={"data": tmp_path / "own"}))
    assert not options.lessons.exists()


@pytest.mark.heavy
def test_the_real_teacher_sees_through_other_last_blocks() -> None:
    teacher = FeatureTeacher(torch.device("cpu"))
    pixels = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = teacher.see(pixels)
    with torch.no_grad():
        late, features = teacher.ending(teacher.enter(pixels))
    torch.testing.assert_close(features, before.features, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(late.permute(0, 2, 3, 1), before.late, atol=1e-3, rtol=1e-3)
    ending = teacher.ending
    with torch.no_grad():
        ending.get_parameter("norm.bias").add_(1.0)
    teacher.take_ending(ending)
    after = teacher.see(pixels)
    assert torch.equal(after.middle, before.middle)
    assert torch.equal(after.late, before.late)
    assert (after.features >= before.features).all()
    assert (after.features - before.features).mean() > 0.001  # most are rectified
