"""Tasks that Label Studio takes: by its own SDK where there is one, and by what is in them."""

import base64
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.collection.folder import Folder
from cli.collected.label_studio import write
from tests.app.color_bundle import BLUE, image
from tests.cli.collected.conftest import LIMITS

# A Python that has label-studio-sdk, whose dependencies are not those of this project.
JUDGE = os.environ.get("MIXER_TEST_LABEL_STUDIO", sys.executable if find_spec("label_studio_sdk") else "")
VALIDATE = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(open(sys.argv[1]).read())
interface.validate()
for task in json.load(open(sys.argv[2])):
    told = [interface.validate_task({"data": task["data"]})]  # its check of a whole task cannot call its own others
    told += map(interface.validate_prediction, task["predictions"])
    told += map(interface.validate_annotation, task.get("annotations", []))
    print(all(told))
"""


def exported(kept: Path, output: Path) -> list[dict[str, object]]:
    write(list(Folder(kept, LIMITS).pictures()), output)
    tasks: list[dict[str, object]] = json.loads(output.read_text())
    return tasks


def test_a_task_has_the_picture_the_answer_and_the_label(kept: Path, tmp_path: Path) -> None:
    old, blue, _ = exported(kept, tmp_path / "tasks.json")
    encoded = base64.b64encode(image(BLUE)).decode()
    assert blue == {
        "data": {
            "image": f"data:image/png;base64,{encoded}",
            "request_id": "a",
            "index": 0,
            "time": "2025-11-29T12:00:00.000Z",
        },
        "predictions": [
            {
                "model_version": "colours 7 fp32",
                "score": 0.9,
                "result": [
                    {
                        "from_name": "label",
                        "to_name": "image",
                        "type": "choices",
                        "value": {"choices": ["red"]},
                        "score": 0.9,
                    }
                ],
            }
        ],
        "annotations": [
            {
                "result": [
                    {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["blue"]}},
                ]
            }
        ],
    }
    assert "annotations" not in old


def test_the_configuration_beside_them_has_every_label(kept: Path, tmp_path: Path) -> None:
    exported(kept, tmp_path / "tasks.json")
    configuration = (tmp_path / "tasks.xml").read_text()
    assert [f'<Choice value="{label}"/>' in configuration for label in ("red", "blue", "green")] == [True, True, False]


@pytest.mark.process
@pytest.mark.skipif(
    not JUDGE, reason="no label-studio-sdk here, and MIXER_TEST_LABEL_STUDIO names no Python that has it"
)
def test_label_studios_own_sdk_takes_them(kept: Path, tmp_path: Path) -> None:
    tasks = exported(kept, tmp_path / "tasks.json")
    command = [JUDGE, "-W", "ignore", "-c", VALIDATE, str(tmp_path / "tasks.xml"), str(tmp_path / "tasks.json")]
    judged = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert judged.returncode == 0, judged.stderr
    assert judged.stdout.split() == ["True"] * len(tasks)
