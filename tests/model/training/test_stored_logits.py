import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.errors import TrainingError
from model.network.run_folder import LESSONS, LESSONS_KEY
from model.training.processes import Processes
from model.training.stored_logits import StoredLogits, key_of
from tests.model.toys import toy_recipe

CPU = torch.device("cpu")
SAID = torch.tensor([[1.0, -2.0, 0.0], [1e-9, 1e6, -1e6], [0.1, 0.2, float("nan")]])
ROUNDED = torch.tensor([[1.0, -2.0, 0.0], [0.0, 65504.0, -65504.0], [0.1, 0.2, float("nan")]]).half().float()


def _key(**changes: Any) -> dict[str, Any]:
    return key_of(toy_recipe(**{"views": 2, **changes}), "somebody", "toy")


def _stored(folder: Path, key: dict[str, Any] | None = None, num_pictures: int = 5) -> StoredLogits:
    """Opened."""
    stored = StoredLogits(folder, key or _key(), num_pictures, 3)
    stored.open(Processes())
    return stored


def _never() -> Tensor:
    raise AssertionError("the teacher was asked")


def _expect_equal(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_what_a_teacher_has_said_is_read_and_not_asked_again_and_rounded_both_times(tmp_path: Path) -> None:
    for places in (slice(0, 3), slice(7, 10)):
        _expect_equal(_stored(tmp_path).logits(places, lambda: SAID, CPU), ROUNDED)
        _expect_equal(_stored(tmp_path).logits(places, _never, CPU), ROUNDED)
    stored = np.fromfile(tmp_path / LESSONS, np.float16).reshape(2, 5, 3)
    np.testing.assert_array_equal(stored[1, 2:], ROUNDED.numpy().astype(np.float16))
    assert not stored.view(np.uint16)[0, 3:].any()


def test_whatever_part_of_an_entry_is_missing_the_teacher_is_asked_again(tmp_path: Path) -> None:
    _stored(tmp_path).logits(slice(0, 3), lambda: SAID, CPU)
    whole = (tmp_path / LESSONS).read_bytes()
    for number in range(9):
        (tmp_path / LESSONS).write_bytes(whole[: 2 * number] + bytes(2) + whole[2 * number + 2 :])
        _expect_equal(_stored(tmp_path).logits(slice(0, 3), lambda: SAID, CPU), ROUNDED)
        assert (tmp_path / LESSONS).read_bytes() == whole


def test_no_pictures_need_no_teacher(tmp_path: Path) -> None:
    assert _stored(tmp_path).logits(slice(4, 4), _never, CPU).shape == (0, 3)


def test_several_write_their_own_rows_of_one_file_until_it_is_complete(tmp_path: Path) -> None:
    assert not StoredLogits(tmp_path, _key(), 5, 3).is_complete
    first, second = _stored(tmp_path), _stored(tmp_path)
    for start in range(0, 10, 2):
        assert not first.is_complete
        for stored, place in ((first, start), (second, start + 1)):
            stored.logits(slice(place, place + 1), lambda: torch.full((1, 3), float(place)), CPU)  # noqa: B023
    assert first.is_complete
    assert second.is_complete
    assert first.logits(slice(0, 10), _never, CPU)[:, 0].tolist() == list(range(10))


# --- whose they are ---


def test_other_logits_are_refused_with_all_that_differs(tmp_path: Path) -> None:
    _stored(tmp_path)
    wanted = key_of(toy_recipe(views=3, mixup=0.5, batch_size=8), "another", "toy")
    with pytest.raises(TrainingError) as caught:
        StoredLogits(tmp_path, wanted, 5, 3).expect_same()
    assert str(caught.value) == (
        f"{tmp_path} holds lessons of another teacher, with mixup 0.0 (now 0.5), with batch_size 16 (now 8), "
        "with views 2 (now 3). To learn from them, give what they were made with; to make others, give another "
        "--lessons."
    )
    with pytest.raises(TrainingError, match="on other data"):
        _stored(tmp_path, {**_key(), "data": "other"})
    assert not StoredLogits(tmp_path, wanted, 5, 3).is_complete


def test_what_decides_no_logits_may_differ(tmp_path: Path) -> None:
    _stored(tmp_path)
    _stored(tmp_path, _key(epochs=9, learning_rate=0.5, accumulate=2, distil_weight=0.1))


def test_a_setting_that_was_not_there_yet_had_its_default(tmp_path: Path) -> None:
    _stored(tmp_path)
    saved = {name: value for name, value in _key().items() if name != "distort"}
    (tmp_path / LESSONS_KEY).write_text(json.dumps(saved))
    _stored(tmp_path)
    with pytest.raises(TrainingError, match=r"with distort 0.0 \(now 0.5\)"):
        _stored(tmp_path, _key(distort=0.5))


@pytest.mark.parametrize("content", ["{", "3", "null"])
def test_a_key_that_is_broken_is_named(tmp_path: Path, content: str) -> None:
    _stored(tmp_path)
    (tmp_path / LESSONS_KEY).write_text(content)
    with pytest.raises(TrainingError, match=r"lessons.json cannot be read: [^\n]*; expected what mixer train"):
        _stored(tmp_path)


def test_a_file_of_another_size_is_named(tmp_path: Path) -> None:
    _stored(tmp_path)
    (tmp_path / LESSONS).write_bytes(bytes(7))
    with pytest.raises(TrainingError, match=r"lessons.f16 has 7 bytes; expected 60. Delete it.$"):
        _stored(tmp_path)


def test_a_file_that_is_deleted_or_whose_key_was_never_written_is_made_anew(tmp_path: Path) -> None:
    for name in (LESSONS, LESSONS_KEY):
        _stored(tmp_path).logits(slice(0, 3), lambda: SAID, CPU)
        (tmp_path / name).unlink()
        _stored(tmp_path)
        assert (tmp_path / LESSONS).read_bytes() == bytes(60)
        assert json.loads((tmp_path / LESSONS_KEY).read_text()) == _key()


# --- what stops it ---


@contextmanager
def _a_full_disk(most_bytes: int) -> Iterator[None]:
    """Inside, no file grows beyond this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("opened", [False, True], ids=["when-made", "when-written"])
def test_a_full_disk_is_told_in_a_line_and_leaves_nothing_half_made(tmp_path: Path, opened: bool) -> None:
    stored = _stored(tmp_path) if opened else StoredLogits(tmp_path, _key(), 5, 3)
    write = partial(stored.logits, slice(5, 8), lambda: SAID, CPU) if opened else partial(stored.open, Processes())
    with _a_full_disk(10), pytest.raises(TrainingError) as caught:
        write()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / LESSONS} cannot be written: ")
    assert "MiB are free" in message
    assert "\n" not in message
    assert opened or not list(tmp_path.iterdir())
    _expect_equal(_stored(tmp_path).logits(slice(5, 8), lambda: SAID, CPU), ROUNDED)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file/lessons/lessons.f16 cannot be written|cannot be read"):
        _stored(tmp_path / "file" / "lessons")
