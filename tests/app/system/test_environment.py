"""Variables as orchestrators, env files and hasty fingers leave them."""

import logging
import re
from pathlib import Path

import pytest

from app.settings import ENV_PREFIX, Settings, load
from app.system import environment
from model.old_names import OLD_NAMES

ROOT = Path(__file__).resolve().parents[3]
SERVICE_LINKS = {
    "MIXER_SERVICE_HOST": "10.0.0.1",
    "MIXER_SERVICE_PORT": "8000",
    "MIXER_SERVICE_PORT_HTTP": "8000",
    "MIXER_PORT": "tcp://10.0.0.1:8000",
    "MIXER_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "MIXER_PORT_8000_TCP_PROTO": "tcp",
    "MIXER_PORT_8000_TCP_PORT": "8000",
    "MIXER_PORT_8000_TCP_ADDR": "10.0.0.1",
    "MIXER_ADMIN_PORT": "tcp://10.0.0.2:9000",
    "MIXER_ADMIN_SERVICE_HOST": "10.0.0.2",
}


def told(caplog: pytest.LogCaptureFixture, variables: dict[str, str]) -> list[tuple[int, str]]:
    with caplog.at_level(logging.INFO, "mixer.environment"):
        environment.log_oddities(Settings.model_fields, ENV_PREFIX, variables)
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_what_kubernetes_sets_for_a_service_of_the_same_name_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    assert load() == Settings.model_construct()
    assert (load(["--port", "9000"]).port, load().admin_port) == (9000, 0)


def test_what_kubernetes_sets_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    ((level, line),) = told(caplog, SERVICE_LINKS | {"MIXER_INSTANCES": "1", "OTHER_PORT": "tcp://10.0.0.3:1"})
    assert level == logging.INFO
    assert "Kubernetes" in line
    assert line.endswith(", ".join(sorted(SERVICE_LINKS)))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_LEVEL", "Warning", "warning"),
        ("LOG_FORMAT", "JSON", "json"),
        ("PROVIDER", "CPU", "cpu"),
        ("PRECISION", "FP32", "fp32"),
        ("HOST", ' "0.0.0.0" ', "0.0.0.0"),
        ("PORT", "'9000'", 9000),
        ("PORT", " 9000\r", 9000),
        ("BUNDLE", '"bundles/mine"', Path("bundles/mine")),
        ("PORT", "", 8000),
        ("PORT", '""', 8000),
        ("LOG_LEVEL", " ", "info"),
        ("TLS_CERT_FILE", "", None),
        ("PROTECT_METRICS", "", False),
        ("DEFAULT_MODEL", '"', '"'),
    ],
)
def test_values_are_taken_as_env_files_leave_them(
    name: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, value)
    assert getattr(load(), name.lower()) == expected


def test_a_password_is_taken_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_TLS_KEY_PASSWORD", ' "x" ')
    assert load().tls_key_password.get_secret_value() == ' "x" '


def test_a_choice_may_be_a_flag_in_any_case() -> None:
    assert load(["--log-level", "DEBUG", "--provider=Cpu"]).log_level == "debug"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MIXER_BUNDEL", "MIXER_BUNDLE"),
        ("MIXER_MAX_BATCHSIZE", "MIXER_MAX_BATCH_SIZE"),
        ("MIXER_ZZZ", "one that mixer serve --help lists"),
    ],
)
def test_a_variable_that_is_no_option_is_warned_of_without_its_value(
    name: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(caplog, {name: "secret", "MIXER_PORT": "8000"}) == [
        (logging.WARNING, f"{name} is no option of the service, and not read; expected {meant}")
    ]


def test_that_nothing_is_fetched_from_a_platforms_storage_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, {"AIP_STORAGE_URI": "", "AIP_HTTP_PORT": "8080"}) == []
    assert told(caplog, {"AIP_STORAGE_URI": "gs://secret/model"}) == [
        (
            logging.WARNING,
            "AIP_STORAGE_URI is not read, and nothing is fetched; expected a folder, as MIXER_BUNDLE",
        )
    ]


def test_options_and_the_variables_of_other_commands_are_known(caplog: pytest.LogCaptureFixture) -> None:
    options = [f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields]
    assert told(caplog, dict.fromkeys([*options, "mixer_port", *environment.NEIGHBOURS], "1")) == []


def test_every_variable_that_the_project_names_is_known(caplog: pytest.LogCaptureFixture) -> None:
    files = [*ROOT.glob("*.md"), *ROOT.glob("docker-compose*.yml"), ROOT / "Dockerfile"]
    files += [
        file for top in ("model", "export", "scripts", "docs") for file in (ROOT / top).rglob("*") if file.is_file()
    ]
    text = "\n".join(file.read_text(errors="replace") for file in files if "tutorial" not in file.parts)
    old = {f"{ENV_PREFIX}{name}".upper() for name in OLD_NAMES}
    named = set(re.findall(r"\bMIXER_[A-Z0-9_]*[A-Z0-9]\b(?![_*])", text)) - {"MIXER_NAME", "MIXER_API_KEY", *old}
    assert {"MIXER_BUNDLE", "MIXER_GOOGLE_MODELS_URL"} <= named
    assert told(caplog, dict.fromkeys(named, "1")) == []
