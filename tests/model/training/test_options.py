import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import FlagError
from model.flags import parse
from model.recipe import RECIPES, Recipe
from model.training.options import TrainOptions


def _options(*flags: str) -> TrainOptions:
    return parse(TrainOptions, ["data", "--out", "run", *flags], "mixer train")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_taken_by_its_name(name: str) -> None:
    chosen = _options("--recipe", name).chosen_recipe()
    assert chosen == RECIPES[name]
    assert type(chosen) is Recipe


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], "small"),
        (["--init", "checkpoint"], "finetune"),
        (["--init", "checkpoint", "--recipe", "small"], "small"),
        (["--init", "checkpoint", "--recipe", "pretrain"], "pretrain"),
    ],
    ids=["nothing", "init", "init-small", "init-pretrain"],
)
def test_without_a_name_it_depends_on_whether_there_is_a_checkpoint_to_start_from(flags: list[str], name: str) -> None:
    assert _options(*flags).chosen_recipe() == RECIPES[name]


@pytest.mark.parametrize("name", RECIPES)
def test_a_flag_overrides_the_recipe_even_where_it_says_what_another_recipe_says(name: str) -> None:
    flags = ("--epochs", "7", "--label-smoothing", "0.1", "--ema-decay", "0.998", "--compile", "true")
    chosen = _options("--recipe", name, *flags).chosen_recipe()
    changes = {"epochs": 7, "label_smoothing": 0.1, "ema_decay": 0.998, "compile": True}
    assert chosen == RECIPES[name].model_copy(update=changes)
    assert chosen != RECIPES[name]


def test_the_papers_recipe_is_not_fitted_to_the_pictures_and_others_are_where_no_flag_says_otherwise() -> None:
    assert _options("--recipe", "pretrain").recipe_for(120) == RECIPES["pretrain"]
    assert _options().recipe_for(120).batch_size == 8
    assert _options("--init", "checkpoint").recipe_for(120).batch_size == 8
    given = _options("--batch-size", "64", "--epochs", "3")
    assert given.recipe_for(120) == given.chosen_recipe()


def test_what_is_no_part_of_a_recipe_changes_none() -> None:
    flags = (
        "--image-size",
        "32",
        "--name",
        "toy",
        "--fit",
        "crop",
        "--background",
        "dark",
        "--teacher",
        "teacher.onnx",
    )
    options = _options(*flags)
    assert options.chosen_recipe() == RECIPES["small"]
    assert (options.image_size, options.fit, options.background) == (32, "crop", "dark")
    assert options.teacher == Path("teacher.onnx")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--views", "2"], "--views is 2, without a --teacher; expected both."),
        (["--teacher", "t.onnx", "--lessons", "kept"], "--lessons is kept, without --views; expected both."),
        (
            ["--teacher", "t.onnx", "--teacher-undistorted", "true"],
            "--teacher-undistorted is true, without a --teacher, or --distort or --turn; expected both.",
        ),
        (["--teacher", "t.onnx", "--views", "-1"], "--views is '-1': input should be greater than or equal to 0."),
    ],
    ids=["no-teacher", "no-views", "no-distort", "negative"],
)
def test_what_is_about_a_teacher_needs_all_that_it_is_about(flags: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        _options(*flags)
    assert str(caught.value) == message


@pytest.mark.process
def test_help_shows_every_flag_and_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from model.flags import parse\n"
        "from model.training.options import TrainOptions\n"
        "try:\n"
        "    parse(TrainOptions, ['--help'], 'mixer train')\n"
        "finally:\n"
        "    assert not {'torch', 'kornia', 'onnxruntime', 'huggingface_hub'} & set(sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    flags = [f"--{name.replace('_', '-')}" for name in TrainOptions.model_fields if name != "data"]
    assert not [flag for flag in flags if flag not in shown.stdout]


def test_a_hidden_layer_is_of_a_head_that_is_trained_alone() -> None:
    with pytest.raises(FlagError) as caught:
        _options("--hidden", "64")
    assert "--hidden is 64, without --freeze; expected both" in str(caught.value)
    assert _options("--freeze", "--hidden", "64").hidden == 64
