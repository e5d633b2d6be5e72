"""The image's entry point: which command it makes of the arguments and variables that platforms give."""

import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parent.parent / "deploy" / "entrypoint"


@pytest.mark.parametrize(
    ("arguments", "variables", "command"),
    [
        ([], {}, ["serve"]),
        ([], {"MIXER_PORT": "9000"}, ["serve"]),
        (["serve"], {}, ["serve", "--port", "8080"]),
        (["serve"], {"MIXER_PORT": "", "SAGEMAKER_BIND_TO_PORT": "8123"}, ["serve", "--port", "8123"]),
        (["serve"], {"MIXER_PORT": "9000", "SAGEMAKER_BIND_TO_PORT": "8123"}, ["serve"]),
        (["serve"], {"AIP_HTTP_PORT": "9000"}, ["serve"]),
        (["serve", "--workers", "2"], {}, ["serve", "--workers", "2"]),
        (["inspect", "a b"], {}, ["inspect", "a b"]),
        (["key"], {"SAGEMAKER_BIND_TO_PORT": "8123"}, ["key"]),
    ],
)
def test_the_command_that_runs(arguments: list[str], variables: dict[str, str], command: list[str], tmp_path: Path):
    mixer = tmp_path / "mixer"
    mixer.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", encoding="utf-8")
    mixer.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **variables}
    done = subprocess.run([ENTRYPOINT, *arguments], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == command
