"""A pupil's losses and targets, a run with its log, its stop and its resume, and the checkpoint that comes out."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.distillation.distil import LOG, STATE, DistilCallbacks, distil
from model.distillation.lessons import CODES
from model.distillation.options import DistilOptions
from model.distillation.pupil import Pupil, at_tokens, make_local, targets_of
from model.errors import TrainingError, TrainingStopped
from model.evaluation.curves import CURVES
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.weights.config import MixerConfig
from tests.model.distillation.conftest import LABELS, write_pictures

CONFIG = MixerConfig(32, 8, 24, 4, 16, 48, num_classes=2, gelu="tanh")


def options(lessons: Path, data: Path, out: Path, **more: object) -> DistilOptions:
    given = {
        "steps": 24, "cool_steps": 8, "warmup_steps": 2, "batch_size": 64, "judge_every": 6, "save_every": 12,
        "image_size": 32, "patch_size": 8, "hidden_dim": 24, "num_blocks": 4, "tokens_mlp_dim": 16,
        "channels_mlp_dim": 48, "compile": False, "learning_rate": 2e-2, "rate_of_others": 1e-2, "ema_decay": 0.8,
    }  # fmt: skip
    return DistilOptions.model_validate({"lessons": lessons, "data": data, "out": out} | given | more)


def test_maps_go_to_the_tokens() -> None:
    maps = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert torch.equal(at_tokens(maps, 4), maps.flatten(1, 2))
    halved = at_tokens(maps, 2)[0, :, 0]
    assert halved[0] < halved[1] < halved[2] < halved[3]
    assert at_tokens(maps, 8).shape == (1, 64, 1)


def test_local_mixing_falls_off_with_the_distance_and_keeps_its_size() -> None:
    plain, local = MlpMixer(CONFIG), MlpMixer(CONFIG)
    local.load_state_dict(plain.state_dict())
    make_local(local)
    for before, after in zip(plain.blocks, local.blocks, strict=True):
        kernel = after.token_mixing.dense_0.weight  # 16 units, one for each of 4 x 4 tokens
        torch.testing.assert_close(kernel.norm(dim=1), before.token_mixing.dense_0.weight.norm(dim=1))
        assert kernel[0, 0].abs() + kernel[0, 1].abs() > 100 * kernel[0, 15].abs()


def test_unlabelled_views_have_no_say_in_the_label_losses() -> None:
    torch.manual_seed(0)
    pupil = Pupil(CONFIG, 3, 5, 7)
    torch.nn.init.normal_(pupil.network.head.weight)
    patches = torch.rand(4, 16, 192) * 255

    def losses(others: torch.Tensor) -> list[float]:
        targets = targets_of(
            torch.zeros(4, 16, 3), torch.zeros(4, 16, 5), torch.zeros(4, 7), others,
            torch.tensor([0, 1, -1, -1]), torch.tensor([0, 1, -1, 1]), torch.ones(4),
        )  # fmt: skip
        return [loss.item() for loss in pupil(patches, targets)]

    first, second = losses(torch.zeros(4, 2)), losses(torch.tensor([[0.0, 0], [0, 0], [9, 0], [0, 9]]))
    assert first == second
    assert all(loss > 0 for loss in first)


def test_a_run_learns_and_writes_a_checkpoint_and_a_log(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    out = tmp_path / "pupil"
    distil(
        options(lessons_folder, data, out, steps=60, pictures=data / "val" / "dark"),
        DistilCallbacks(on_note=notes.append),
    )
    rows = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(6, 61, 6))
    assert rows[-1]["features"] < 0.7 * rows[0]["features"]
    assert rows[-1]["late"] < rows[0]["late"]
    assert rows[-1]["rate"] == 0
    loaded = checkpoint.load(out)
    assert loaded.spec.labels == ("dark", "light")
    assert loaded.spec.fit.mode == "stretch"
    assert loaded.images is not None
    assert loaded.images.shape == (8, 32, 32, 3)
    assert loaded.training["evaluation"]["top1"] >= 0.9


def test_a_stopped_run_goes_on_to_the_same_end(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    distil(options(lessons_folder, data, whole), DistilCallbacks())
    asked = iter([False] * 9 + [True])
    with pytest.raises(TrainingStopped, match="step 10"):
        distil(options(lessons_folder, data, parts), DistilCallbacks(should_stop=lambda: next(asked)))
    distil(options(lessons_folder, data, parts), DistilCallbacks())
    states = [torch.load(folder / STATE, weights_only=True) for folder in (whole, parts)]
    assert all(torch.equal(states[0]["average"][name], states[1]["average"][name]) for name in states[0]["average"])


def test_a_pupil_begins_with_the_network_of_a_checkpoint(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    """Whose weights are all there before its first step, which is so small that none of them moves."""
    first = distil(options(lessons_folder, data, tmp_path / "first"), DistilCallbacks())
    still = {"steps": 1, "cool_steps": 0, "learning_rate": 1e-12, "rate_of_others": 1e-12, "weight_decay": 0.0}
    then = distil(options(lessons_folder, data, tmp_path / "then", init=tmp_path / "first", **still), DistilCallbacks())
    for name, weight in first.model.state_dict().items():
        torch.testing.assert_close(then.model.state_dict()[name], weight, rtol=1e-5, atol=1e-7)
    assert "init" not in then.training["options"]


def test_a_share_of_the_first_network_is_in_the_result_and_not_in_the_run(
    lessons_folder: Path, data: Path, tmp_path: Path
) -> None:
    first = distil(options(lessons_folder, data, tmp_path / "first", steps=6), DistilCallbacks()).model
    more = {"init": tmp_path / "first", "steps": 6}
    alone = distil(options(lessons_folder, data, tmp_path / "alone", **more), DistilCallbacks()).model
    told: list[str] = []
    callbacks = DistilCallbacks(on_note=told.append)
    both = distil(options(lessons_folder, data, tmp_path / "both", init_share=0.25, **more), callbacks).model
    assert re.match(r"the result, 25% of --init's weights in it: top-1 [\d.]+%, calibrated loss [\d.]+$", told[-1])
    again = distil(options(lessons_folder, data, tmp_path / "both", init_share=0.25, **more), DistilCallbacks()).model
    weights = zip(*(dict(model.named_parameters()).values() for model in (first, alone, both, again)), strict=True)
    for before, learned, blended, once_more in weights:
        torch.testing.assert_close(blended, 0.25 * before + 0.75 * learned)
        assert torch.equal(blended, once_more)  # the saved state was not blended
    assert not torch.allclose(first.head.weight, alone.head.weight)


def test_a_checkpoint_of_other_sizes_or_labels_is_none_to_begin_with(
    lessons_folder: Path, data: Path, tmp_path: Path
) -> None:
    distil(options(lessons_folder, data, tmp_path / "first", steps=2), DistilCallbacks())
    with pytest.raises(
        TrainingError, match=r"--init \S+first has hidden_dim 24, not 32; expected a network as the options"
    ):
        distil(
            options(lessons_folder, data, tmp_path / "then", init=tmp_path / "first", hidden_dim=32), DistilCallbacks()
        )
    described = tmp_path / "first" / "config.json"
    described.write_text(described.read_text().replace(f'"{LABELS[0]}"', '"indigo"'))
    with pytest.raises(
        TrainingError, match=r"--init \S+first knows indigo, light; expected dark, light, as the lessons"
    ):
        distil(options(lessons_folder, data, tmp_path / "then", init=tmp_path / "first"), DistilCallbacks())
    assert not (tmp_path / "then").exists()


def test_a_run_goes_on_from_where_it_began_and_never_from_its_own_result(
    lessons_folder: Path, data: Path, tmp_path: Path
) -> None:
    distil(options(lessons_folder, data, tmp_path / "first", steps=2), DistilCallbacks())
    more = {"steps": 2, "init": tmp_path / "first"}
    distil(options(lessons_folder, data, tmp_path / "then", **more), DistilCallbacks())
    wrong = ((None, "the beginning was with weights of sum .*; expected the same, not at random"),
             (tmp_path / "then", "which is --out; expected another folder"))  # fmt: skip
    for init, words in wrong:
        with pytest.raises(TrainingError, match=words):
            distil(options(lessons_folder, data, tmp_path / "then", steps=4, init=init), DistilCallbacks())
    with pytest.raises(TrainingError, match=r"the beginning was at random; expected the same, not with weights of sum"):
        distil(options(lessons_folder, data, tmp_path / "first", init=tmp_path / "then", steps=4), DistilCallbacks())


def test_a_run_goes_on_with_lessons_of_the_same_teacher_alone(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    """A teacher with other last blocks has the same codes half-way, and others at the end."""
    shutil.copytree(lessons_folder, tmp_path / "tuned")
    distil(options(lessons_folder, data, tmp_path / "pupil", steps=2), DistilCallbacks())
    with np.load(lessons_folder / CODES) as stored:
        content = {name: stored[name] for name in stored.files}
    content["late.deviations"] = content["late.deviations"] * 1.01
    np.savez(tmp_path / "tuned" / CODES, **content)
    with pytest.raises(TrainingError, match="the sum of the teacher's late codes was"):
        distil(options(tmp_path / "tuned", data, tmp_path / "pupil", steps=4), DistilCallbacks())


def test_a_state_of_another_network_is_named(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    distil(options(lessons_folder, data, tmp_path, steps=2), DistilCallbacks())
    with pytest.raises(TrainingError, match=STATE):
        distil(options(lessons_folder, data, tmp_path, hidden_dim=32), DistilCallbacks())
    (tmp_path / STATE).write_bytes(b"half of it")
    with pytest.raises(TrainingError, match=f"{STATE} cannot be read"):
        distil(options(lessons_folder, data, tmp_path), DistilCallbacks())


def test_a_run_goes_on_as_it_was_but_for_its_length_rates_and_weights(
    lessons_folder: Path, data: Path, tmp_path: Path
) -> None:
    distil(options(lessons_folder, data, tmp_path, steps=2), DistilCallbacks())
    for changed in ({"seed": 5}, {"local": False}, {"batch_size": 8}):
        ((name, value),) = changed.items()
        was = f"--{name.replace('_', '-')} was .*; expected the same, not {value}"
        with pytest.raises(TrainingError, match=was):
            distil(options(lessons_folder, data, tmp_path, steps=4, **changed), DistilCallbacks())
    distil(options(lessons_folder, data, tmp_path, steps=4, labels_weight=0.3, learning_rate=1e-4), DistilCallbacks())
    assert (tmp_path / CURVES).stat().st_size > 10_000


def test_a_full_disk_is_told_in_a_line(
    lessons_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(content: object, path: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"cannot hold the run: .*No space left on device.*MiB are free"):
        distil(options(lessons_folder, data, tmp_path, steps=2), DistilCallbacks())


def test_test_pictures_are_left_alone(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "val", tmp_path / "data" / "val")
    write_pictures(tmp_path / "data", "test", 3)
    made = distil(options(lessons_folder, tmp_path / "data", tmp_path / "pupil", steps=2), DistilCallbacks())
    assert made.training["judged_on"] == "16 validation pictures"


def test_without_validation_pictures_nothing_is_learned(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    """Some of the training pictures would be no judges: the lessons show them."""
    for folder in (data / "train", tmp_path / "only"):
        if folder.name == "only":
            shutil.copytree(data / "train", folder / "train")
            (folder / "val").mkdir()
        with pytest.raises(TrainingError, match=r"has no val/; expected it, as the lessons show all other pictures\."):
            distil(options(lessons_folder, folder, tmp_path / "pupil"), DistilCallbacks())
    assert not (tmp_path / "pupil").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch_size": 257}, "--batch-size is 257; expected at most 256, the lessons."),
        ({"init_share": 0.5}, "--init-share is 0.5; expected --init beside it, whose share that is."),
        ({"pictures": "nowhere"}, "nowhere has no picture; expected some for the checkpoint to carry along."),
    ],
)
def test_what_cannot_work_is_told_before_a_step(
    wrong: dict[str, Any], words: str, lessons_folder: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=re.escape(words)):
        distil(options(lessons_folder, data, tmp_path / "pupil", **wrong), DistilCallbacks())
    assert not (tmp_path / "pupil").exists()


def test_weights_that_are_not_finite_are_told(lessons_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the weights after step 6 are no good: The logits are not all finite"):
        distil(options(lessons_folder, data, tmp_path, learning_rate=1e30, rate_of_others=1e30), DistilCallbacks())
