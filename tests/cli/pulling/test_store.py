"""The cache of bundles: found when complete, made by one at a time, and empty after whatever went wrong."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cli.pulling.asked import Asked
from cli.pulling.store import Made, Store
from model.errors import CheckpointError

ASKED = Asked("timm:mixer_b16_224.goog_in21k")
TOLD = "self-check passed."


def nobody_waits() -> None:
    raise AssertionError("the lock is held by nobody")


def made_in(folder: Path, key: str = "key") -> Made:
    bundle = folder / key / "mixer"
    bundle.mkdir(parents=True)
    (bundle / "fp32.onnx").write_text(key)
    return Made(bundle, True, TOLD)


def put(store: Store, asked: Asked = ASKED, key: str = "key") -> Made:
    with store.making(asked, nobody_waits) as folder:
        return store.put(asked, key, made_in(folder, key))


def test_what_was_put_is_found_with_what_was_told_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(ASKED) is None
    made = put(store)
    assert store.find(ASKED) == made == Made(tmp_path / "models" / "key" / "mixer", True, TOLD)
    assert (made.bundle / "fp32.onnx").read_text() == "key"
    assert Store(tmp_path).find(Asked(ASKED.source, ("other", "labels"))) is None


def test_nothing_else_is_left_but_a_lock(tmp_path: Path) -> None:
    put(Store(tmp_path))
    models = tmp_path / "models"
    assert sorted(path.name for path in models.iterdir()) == ["asked", "key"]
    assert sorted(path.suffix for path in (models / "asked").iterdir()) == [".json", ".lock"]


def test_a_failure_leaves_nothing_that_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> None:
        with store.making(ASKED, nobody_waits) as folder:
            made_in(folder)
            raise CheckpointError("This is no Mixer.")

    with pytest.raises(CheckpointError, match="no Mixer"):
        fail()
    assert store.find(ASKED) is None
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["asked"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.making(ASKED, nobody_waits) as folder:
        name = folder.name
    left = tmp_path / "models" / name / "key" / "mixer"
    left.mkdir(parents=True)
    (left / "fp32.onnx").write_text("half")
    assert store.find(ASKED) is None
    assert (put(store).bundle / "fp32.onnx").read_text() == "key"


def test_a_second_one_waits_for_the_first_and_finds_its_bundle(tmp_path: Path) -> None:
    store, waits, found = Store(tmp_path), threading.Event(), []

    def second() -> None:
        with store.making(ASKED, waits.set):
            found.append(store.find(ASKED))

    thread = threading.Thread(target=second)
    with store.making(ASKED, nobody_waits) as folder:
        thread.start()
        assert waits.wait(30)
        made = store.put(ASKED, "key", made_in(folder))
    thread.join(30)
    assert found == [made]


def test_other_weights_of_the_same_name_take_over_and_the_old_ones_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = put(store)
    new = put(store, key="newer")
    assert store.find(ASKED) == new
    assert old.bundle.is_dir(), "a service may have it open"


def test_the_same_weights_by_two_names_are_kept_once(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Asked("hf-hub:timm/mixer_b16_224.goog_in21k")
    assert put(store).bundle == put(store, other).bundle


@pytest.mark.parametrize("content", ["", "[]", '{"bundle": "key/gone", "passed": true, "told": ""}', '{"bundle": 3}'])
def test_an_entry_that_cannot_be_read_or_whose_bundle_is_gone_is_none(tmp_path: Path, content: str) -> None:
    store = Store(tmp_path)
    put(store)
    (tmp_path / "models" / "asked" / f"{ASKED.key}.json").write_text(content)
    assert store.find(ASKED) is None


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = f"{tmp_path}/file/models cannot be written: .*Not a directory"
    with pytest.raises(CheckpointError, match=told), Store(tmp_path / "file").making(ASKED, nobody_waits):
        raise AssertionError("there is no folder")


def test_the_same_weights_in_a_file_of_another_name_leave_the_first_bundle_where_it_is(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Asked("/models/copy.safetensors")
    first = put(store)
    with store.making(other, nobody_waits) as folder:
        made = made_in(folder)
        second = store.put(other, "key", replace(made, bundle=made.bundle.rename(folder / "key" / "copy")))
    assert first.bundle.is_dir(), "a service may have it open"
    assert (store.find(ASKED), store.find(other)) == (first, second)


def test_another_user_may_read_what_was_made(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        put(Store(tmp_path))
    finally:
        os.umask(before)
    assert (tmp_path / "models" / "asked" / f"{ASKED.key}.json").stat().st_mode & 0o777 == 0o644
