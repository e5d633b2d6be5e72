"""Every option: from a flag, a variable or its default; checked at once, and refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import BadSettings
from app.settings import ENV_PREFIX, Settings, load


def refusal(*flags: str) -> str:
    with pytest.raises(BadSettings) as refused:
        load(flags)
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_defaults_serve_the_shipped_bundle_on_this_machine_only() -> None:
    settings = load()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 0)
    assert settings.bundle == Path(__file__).resolve().parents[2] / "bundles" / "clothes"
    assert (settings.max_wait_ms, settings.provider, settings.precision) == (0, "auto", "auto")
    assert settings.api_keys.get_secret_value() == ""


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_MAX_BATCH_SIZE", "16")
    monkeypatch.setenv("MIXER_PORT", "9001")
    settings = load(["--port", "9002", "--max-wait-ms=2.5"])
    assert (settings.port, settings.max_batch_size, settings.max_wait_ms) == (9002, 16, 2.5)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_option_says_what_follows_from_it(name: str) -> None:
    field = Settings.model_fields[name]
    assert len(field.description or "") > 10
    assert (field.description or "").endswith(".")
    assert not field.is_required()


@pytest.mark.parametrize(
    "name", [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]
)
def test_every_number_has_a_lowest_and_a_highest_value(name: str) -> None:
    for value in (-1, 1 << 40):
        with pytest.raises(ValidationError, match=name):
            Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "x", "MIXER_PORT is 'x': input should be a valid integer"),
        ("PORT", "65536", "MIXER_PORT is '65536': input should be less than or equal to 65535."),
        ("WORKERS", "-1", "MIXER_WORKERS is '-1': input should be greater than or equal to 0."),
        ("WATCHDOG_S", "0", "MIXER_WATCHDOG_S is '0': input should be greater than 0."),
        ("REQUEST_TIMEOUT_S", "0", "MIXER_REQUEST_TIMEOUT_S is '0': input should be greater than 0."),
        ("MAX_WAIT_MS", "nan", "MIXER_MAX_WAIT_MS is 'nan': "),
        ("REQUEST_TIMEOUT_S", "inf", "MIXER_REQUEST_TIMEOUT_S is 'inf': "),
        ("PROVIDER", "tpu", "MIXER_PROVIDER is 'tpu': input should be 'auto', 'cpu', 'cuda' or 'tensorrt'."),
        ("PRECISION", "fp8", "MIXER_PRECISION is 'fp8': input should be 'auto', 'fp32', 'fp16' or 'int8'."),
        ("LOG_LEVEL", "loud", "MIXER_LOG_LEVEL is 'loud': "),
    ],
)
def test_an_impossible_value_is_refused_with_its_name_and_what_was_expected(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, value)
    assert refusal().startswith(words)


def test_options_that_contradict_each_other_are_refused() -> None:
    assert refusal("--queue-capacity", "8", "--max-images-per-request", "9") == (
        "max_images_per_request is 9; expected at most queue_capacity 8."
    )


@pytest.mark.parametrize("flags", [["--prot", "3"], ["one", "two"], ["--port"], ["--port", "1", "--nonsense"]])
def test_a_flag_that_does_not_exist_or_lacks_its_value_is_refused(flags: list[str]) -> None:
    assert refusal(*flags).endswith(". See mixer serve --help.")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Settings(**dict.fromkeys(["prot"], 3))


def test_a_key_is_not_shown_by_accident() -> None:
    settings = load(["--api-keys", "very-secret-key-of-mine"])
    for shown in (str(settings), repr(settings), json.dumps(settings.model_dump(mode="json"))):
        assert "very-secret" not in shown


def test_settings_cannot_be_changed() -> None:
    settings: Any = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


# --- root_path ---


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("", ""),
        ("/", ""),
        ("/mixer", "/mixer"),
        ("/mixer/", "/mixer"),
        ("/vision/mixer-1.0_x~y", "/vision/mixer-1.0_x~y"),
    ],
)
def test_a_root_path_is_a_path_of_plain_names(given: str, taken: str) -> None:
    assert load(["--root-path", given]).root_path == taken


@pytest.mark.parametrize(
    "given",
    [
        "mixer",
        "//x.example",
        "/a//b",
        "/a/../b",
        "/.",
        "/a b",
        "/a%2fb",
        "/a?b",
        "/a#b",
        "/ä",
        "http://x",
        "/" + "x" * 256,
    ],
)
def test_what_is_no_path_of_plain_names_is_refused_as_root_path(given: str) -> None:
    assert f"{given} is no path of plain names; expected one as /mixer or /vision/mixer." in refusal(
        "--root-path", given
    )


@pytest.mark.parametrize("given", ["/classify", "/docs/", "/model", "/health/x", "/openapi.json"])
def test_a_root_path_that_begins_as_a_path_of_the_service_is_refused(given: str) -> None:
    assert "begins as a path of the service itself does; expected another one." in refusal("--root-path", given)


def test_rules_and_a_folder_of_kept_pictures_need_each_other(tmp_path: Path) -> None:
    assert "collect_share is 0.5, and no pictures are kept; expected collect_dir" in refusal("--collect-share", "0.5")
    assert "and no rule chooses; expected collect_share or " in refusal("--collect-dir", str(tmp_path))
    assert load(["--collect-dir", str(tmp_path), "--collect-uncertain", "true"]).collect_dir == tmp_path
