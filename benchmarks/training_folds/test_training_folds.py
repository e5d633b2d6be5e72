"""Every picture is judged once, by what has not seen it, at a temperature that knows nothing of it."""

from pathlib import Path

import numpy as np

from benchmarks.training_folds.__main__ import COOL, COOL_WEIGHTS, COUNT, LEVEL, fold_of, left_out, split
from model.data.layout import read_labels

ROOT = Path(__file__).resolve().parents[2]


def test_folds_are_alike_in_size_and_depend_on_names_alone() -> None:
    names = [f"train-{number}.jpg" for number in range(100)]
    folds = fold_of(names)
    assert fold_of(names[::-1]) == folds
    assert sorted(np.bincount(list(folds.values())).tolist()) == [33, 33, 34]


def test_each_picture_is_in_one_fold_and_in_what_the_others_learn_from(tmp_path: Path) -> None:
    labels = read_labels(ROOT / "bundles" / "clothes" / "labels.txt")
    for part in ("train", "val"):
        for label in labels:
            folder = tmp_path / "photographs" / part / label
            folder.mkdir(parents=True)
            for number in range(4):  # the same names in both
                (folder / f"{number}.jpg").write_text(f"{part} {label} {number}")
    seen: list[str] = []
    for fold in range(3):
        split(tmp_path / "photographs", out := tmp_path / str(fold), fold)
        learned, judged = (
            [path.read_text() for path in sorted((out / part).rglob("*.jpg"))] for part in ("train", "val")
        )
        assert len(learned) + len(judged) == len({*learned, *judged}) == 80
        assert all(path.read_text().split(maxsplit=1)[1].startswith(path.parent.name) for path in out.rglob("*.jpg"))
        seen += judged
    assert len(seen) == len(set(seen)) == 80


def test_a_temperature_knows_nothing_of_the_pictures_it_is_for() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(300, 10))
    labels = (logits + generator.normal(size=logits.shape)).argmax(axis=1)
    before = left_out(logits, labels)
    part = np.random.default_rng(0).permutation(300) % 10
    changed = np.where(part == 4, (labels + 1) % 10, labels)
    after = left_out(logits, changed)
    assert np.array_equal(before[part == 4], after[part == 4])
    assert not np.array_equal(before[part != 4], after[part != 4])


def test_it_trains_as_the_default_model_is_trained() -> None:
    script = (ROOT / "bundles" / "clothes" / "train.sh").read_text()
    assert f"${{COUNT:-{COUNT}}}" in script
    assert f'"${{LEVEL:-{LEVEL}}}" "${{COOL:-{COOL}}}"' in script
    assert " ".join(COOL_WEIGHTS) in script
    assert "--fit crop" in script
