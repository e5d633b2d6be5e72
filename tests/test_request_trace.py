"""What one picture goes through in the service's own code does not grow unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST = {"raw": {"calls": 173, "files": 39, "changes": 118}, "form": {"calls": 194, "files": 40, "changes": 121}}


@pytest.mark.process
def test_a_request_for_one_picture_takes_no_more_calls_and_files_than_it_did() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    command = [sys.executable, "-m", "benchmarks.request_trace", "--list"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    lines = done.stdout.splitlines()
    found = {one.pop("request"): one for one in map(json.loads, lines[:2])}
    assert found.keys() == MOST.keys()
    for kind, most in MOST.items():
        assert all(found[kind][what] <= limit for what, limit in most.items()), (found[kind], most)
    assert len(lines) == 2 + found["raw"]["calls"]
    assert lines[2] == "app/server/connection.py Connection.data_received"
