from pathlib import Path

import pytest
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, CliPositionalArg, SettingsConfigDict

from model.errors import FlagError
from model.flags import parse
from model.training.options import TrainOptions


class _Options(BaseSettings):
    model_config = SettingsConfigDict(extra="forbid", cli_kebab_case=True)

    data: CliPositionalArg[Path]
    big_number: int = Field(ge=1)
    even: int = 2
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


def test_flags_become_options() -> None:
    options = parse(_Options, ["pictures", "--big-number", "7"], "toy")
    assert (options.data, options.big_number, options.even) == (Path("pictures"), 7, 2)
    assert options.model_fields_set == {"data", "big_number"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["pictures"], "--big-number: field required."),
        (["--big-number", "1"], "the following arguments are required: DATA. See toy --help."),
        (["pictures", "--big-number", "0"], "--big-number is '0': input should be greater than or equal to 1."),
        (["pictures", "--big-number", "1", "--even", "3"], "--even is '3': expected an even number."),
        (["pictures", "--big-number", "1", "--odd", "3"], "unrecognized arguments: --odd 3. See toy --help."),
        (["pictures", "--big-number"], "argument --big-number: expected one argument. See toy --help."),
    ],
    ids=["missing", "missing-positional", "out-of-range", "own-check", "unknown", "no-value"],
)
def test_a_flag_that_cannot_be_used_is_one_line_with_what_was_expected(flags: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse(_Options, flags, "toy")
    assert str(caught.value) == message


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
        ["data"],
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
