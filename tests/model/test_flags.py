from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.errors import FlagError
from model.flags import Positional, Switch, Toggle, Word, parse
from model.training.options import TrainOptions


class _Sizes(BaseModel):
    """How large it is. More about that."""

    big_number: int = Field(ge=1, description="How many [N, H].")


class _Options(_Sizes):
    """Does something."""

    model_config = ConfigDict(extra="forbid")

    data: Positional[Path] = Field(description="Where it lies (LABEL/*).")
    as_json: Toggle[bool] = Field(default=False, alias="json", description="Print JSON.")
    fast: Switch[bool | None] = Field(default=None, description="Whether to hurry.")
    kind: Literal["one", "other"] | None = Field(default=None, description="Which one. Default: any.")
    even: int = Field(default=2, description="An even number.")
    secret_key: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, even: int, _info: ValidationInfo) -> int:
        if even % 2:
            raise ValueError("Expected an even number.")
        return even


class _Prefixed(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="toy_")

    width: int = 1


class _Worded(BaseModel):
    """Serves something."""

    place: Annotated[Path, Word("MODEL")] = Field(default=Path("here"), description="What to serve.")
    port: int = 1


@pytest.mark.parametrize("flags", [["there"], ["--place", "there"], ["--port", "2", "there"], ["there", "--port=2"]])
def test_a_word_stands_for_its_flag(flags: list[str]) -> None:
    options = parse(_Worded, flags, "toy")
    assert options.place == Path("there")
    assert options.port == 1 + ("2" in "".join(flags))


def test_a_word_may_be_left_out() -> None:
    assert parse(_Worded, ["--port", "2"], "toy").place == Path("here")


def test_a_word_and_its_flag_are_one_too_many() -> None:
    with pytest.raises(FlagError) as caught:
        parse(_Worded, ["there", "--place", "here"], "toy")
    assert str(caught.value) == "MODEL is 'there' and --place 'here'; expected one of the two."


def test_help_has_the_word_beside_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(_Worded, ["--help"], "toy")
    told = capsys.readouterr().out
    assert "Usage: toy [OPTIONS] [MODEL]" in told
    assert "--place PATH" in told


def test_flags_become_options() -> None:
    options = parse(_Options, ["pictures", "--big-number", "7"], "toy")
    assert (options.data, options.big_number, options.even) == (Path("pictures"), 7, 2)
    assert options.model_fields_set == {"data", "big_number"}
    assert parse(_Options, ["--json", "pictures", "--big-number=7"], "toy").as_json


@pytest.mark.parametrize(("flags", "value"), [([], None), (["--fast"], True), (["--no-fast"], False)])
def test_a_switch_is_true_false_or_not_given(flags: list[str], value: bool | None) -> None:
    assert parse(_Options, ["pictures", "--big-number", "7", *flags], "toy").fast is value


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["pictures"], "--big-number is missing. See toy --help."),
        (["--big-number", "1"], "DATA is missing. See toy --help."),
        (["pictures", "--big-number", "0"], "--big-number is '0': input should be greater than or equal to 1."),
        (["pictures", "--big-number", "1", "--even", "3"], "--even is '3': expected an even number."),
        (["pictures", "--big-number", "1", "--odd", "3"], "--odd is no option of toy. See toy --help."),
        (
            ["pictures", "--big-numbre", "1"],
            "--big-numbre is no option of toy; the nearest is --big-number. See toy --help.",
        ),
        (["pictures", "--big-number"], "Option '--big-number' requires an argument. See toy --help."),
        (["pictures", "more", "--big-number", "1"], "Got unexpected extra argument(s) (more). See toy --help."),
        (["pictures", "--big-number", "-1"], "--big-number is '-1': input should be greater than or equal to 1."),
    ],
    ids=[
        *("missing", "missing-positional", "out-of-range", "own-check", "unknown", "misspelt", "no-value"),
        *("one-too-many", "negative"),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_line_with_what_was_expected(flags: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(_Options, flags, "toy")
    assert str(caught.value) == message


def test_help_has_every_option_with_its_values_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(_Options, ["--help"], "toy")
    assert ended.value.code == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Does something." in lines
    assert (
        lines[-9:]
        == [
            "[DATA] Where it lies (LABEL/*). Required.",
            "",
            "Options:",
            "--json Print JSON.",
            "--fast / --no-fast Whether to hurry.",
            "--kind one|other Which one. Default: any.",
            "--even INTEGER An even number. Default: 2.",
            "--secret-key INTEGER Default: 0.",
            "--big-number INTEGER How many [N, H]. Required.",
            "--help Show this message and exit.",
        ][-9:]
    )


def test_a_key_is_not_repeated_in_an_error() -> None:
    with pytest.raises(FlagError) as caught:
        parse(_Options, ["pictures", "--big-number", "1", "--secret-key", "hunter2"], "toy")
    assert str(caught.value).startswith("--secret-key: input should be a valid integer")
    assert "hunter2" not in str(caught.value)


def test_a_variable_of_the_environment_is_named_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_WIDTH", "broad")
    with pytest.raises(FlagError, match=r"^TOY_WIDTH is 'broad': input should be a valid integer"):
        parse(_Prefixed, [], "toy")


@pytest.mark.parametrize(
    "flags",
    [
        ["--out", "run"],
        ["data", "--out", "run", "--recipe", "large"],
        ["data", "--out", "run", "--background", "light"],
        ["data", "--out", "run", "--compile", "perhaps"],
        ["data", "--out", "run", "--mixup", "-1"],
        ["data", "more", "--out", "run"],
    ],
    ids=" ".join,
)
def test_a_mistake_in_the_flags_of_training_is_one_line(flags: list[str]) -> None:
    with pytest.raises(FlagError) as caught:
        parse(TrainOptions, flags, "mixer train")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith(".")
