"""The scripts install what is needed, once, and never both builds of ONNX Runtime. Pip and pytest only note calls."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
FAKE = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


class Project:
    """A folder with the real scripts, a fake .venv, and perhaps a fake NVIDIA driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder / "calls"
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        (folder / "pyproject.toml").write_text("[project]\n")
        (folder / "constraints.txt").write_text("numpy==1\n")
        (folder / "tests/clients").mkdir(parents=True)
        for name in ("requirements.txt", "package.json"):
            shutil.copy(ROOT / "tests/clients" / name, folder / "tests/clients")
        for name in (".venv/bin/python", ".venv/bin/mixer", ".venv/bin/coverage", ".venv-clients/bin/python"):
            self.fake(name)
        for name in ("npm", "apt-get", "dpkg"):
            self.fake(f"driver/{name}")

    def fake(self, name: str, script: str = FAKE) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> list[str]:
        """The calls of pip and mixer that a script makes."""
        self.calls_file.write_text("")
        environment = {"PATH": f"{self.folder / 'driver'}:{os.environ['PATH']}", "CALLS": str(self.calls_file)}
        environment |= variables
        subprocess.run(
            [str(self.folder / "scripts" / command[0]), *command[1:]], env=environment, check=True, capture_output=True
        )
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_second_start_installs_nothing(project: Project):
    assert any("pip install" in call and ".[cpu]" in call for call in project.run("serve"))
    assert project.run("serve", "--port", "9") == ["mixer serve --port 9"]


@pytest.mark.parametrize(
    "words",
    [
        ["timm:mixer_b16_224.goog_in21k"], ["--port", "9", "hf-hub:a/b@v2"], ["--bundle=google:gsam/Mixer-S_16"],
        ["--bundle", "weights/Mixer-B_16.npz"], ["mixer.safetensors"], ["a checkpoint"],
    ],
)  # fmt: skip
def test_a_model_that_is_no_bundle_brings_what_fetches_and_converts_it(project: Project, words: list[str]):
    for name in ("config.json", "model.safetensors"):
        project.fake(f"a checkpoint/{name}")
    calls = project.run("serve", *(str(project.folder / word) if word == "a checkpoint" else word for word in words))
    assert any(".[cpu,pull]" in call for call in calls)


def test_a_bundle_brings_nothing_of_it(project: Project):
    project.fake("bundles/pets/fp32.onnx")
    calls = project.run("serve", str(project.folder / "bundles/pets"), "--log-format", "json")
    assert any(".[cpu]" in call for call in calls)


def test_a_model_in_the_variable_brings_it_too(project: Project):
    calls = project.run("serve", MIXER_BUNDLE="timm:mixer_b16_224.goog_in21k")
    assert any(".[cpu,pull]" in call for call in calls)


def test_changed_constraints_are_installed(project: Project):
    project.run("serve")
    (project.folder / "constraints.txt").write_text("numpy==2\n")
    assert any("pip install" in call for call in project.run("serve"))


def test_an_nvidia_driver_that_answers_brings_the_gpu_build_in_place_of_the_other(project: Project):
    project.run("serve")
    project.fake("driver/nvidia-smi", "#!/bin/sh\nexit 0\n")
    calls = project.run("serve")
    assert [call for call in calls if "uninstall" in call] == [
        "python -m pip uninstall --quiet --yes onnxruntime onnxruntime-gpu"
    ]
    assert any(".[gpu]" in call for call in calls)


def test_a_driver_that_does_not_answer_is_none(project: Project):
    project.fake("driver/nvidia-smi", "#!/bin/sh\nexit 9\n")
    assert any(".[cpu]" in call for call in project.run("serve"))


def test_the_gpu_build_comes_back_after_the_tests_have_replaced_it(project: Project):
    project.fake("driver/nvidia-smi", "#!/bin/sh\nexit 0\n")
    project.run("serve")
    assert any(".[cpu,dev]" in call for call in project.run("test"))
    assert any(".[gpu]" in call for call in project.run("serve"))


def pytest_calls(project: Project, *flags: str) -> list[str]:
    return [call for call in project.run("test", *flags) if "-m pytest" in call]


def test_fast_runs_the_quick_tests_on_all_cores_and_hands_on_what_follows(project: Project):
    fast = "python -m pytest -n auto --dist worksteal -m not (process or training or heavy or docker or browser)"
    assert pytest_calls(project, "--fast") == [fast]
    assert pytest_calls(project, "--fast", "tests/app", "--cov") == [f"{fast} tests/app --cov"]


def test_fast_leaves_out_every_mark_that_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    marks = " or ".join(mark.partition(":")[0] for mark in declared)
    assert f'"not ({marks})"' in (ROOT / "scripts" / "test").read_text()


def test_other_arguments_go_to_pytest_and_nothing_is_measured(project: Project):
    assert project.run("test", "-k", "law_07")[-1] == "python -m pytest -k law_07"


def test_without_arguments_every_test_runs_and_coverage_is_held_to_its_bars(project: Project):
    calls = project.run("test")
    assert calls[-4:] == [
        "python -m pytest -n auto --dist worksteal -m not docker --cov --cov-report= --durations=10",
        "coverage report --include=app/*,cli/*,export/*,mixer_client/* --fail-under=95",
        "coverage report --include=model/* --fail-under=90",
        "python -m pytest -m docker",
    ]


def test_the_clients_are_installed_once_before_all_tests_and_never_before_quick_ones(project: Project):
    pip = "python -m pip --quiet --disable-pip-version-check install --no-deps"
    pip += " --requirement tests/clients/requirements.txt"
    assert pip not in project.run("test", "--fast")
    calls = project.run("test")
    assert calls.index(pip) < calls.index("npm install --silent --no-package-lock --prefix .venv-clients")
    assert "apt-get download libb64-0d" in calls
    assert pip not in project.run("test")


def test_changed_clients_are_installed(project: Project):
    project.run("install-clients")
    assert project.run("install-clients") == []
    (project.folder / "tests/clients/requirements.txt").write_text("numpy==2\n")
    assert any("pip" in call for call in project.run("install-clients"))


def test_clients_that_cannot_be_had_are_left_out(project: Project):
    for name in ("npm", "apt-get"):
        project.fake(f"driver/{name}", "#!/bin/sh\nexit 1\n")
    assert any("pip" in call for call in project.run("install-clients"))
    assert project.run("install-clients") == []


def test_every_script_is_short_plain_sh():
    for script in (ROOT / "scripts").iterdir():
        lines = script.read_text().splitlines()
        assert lines[0] == "#!/bin/sh"
        assert len(lines) < 35


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("bundles/mine/fp32.onnx", True),
        ("bundles/mine", True),
        (".venv-clients/bin/python", True),
        ("bundles/clothes/int8.onnx", False),
        ("bundles/fashion-mnist/int8.onnx", False),
        ("bundles/fashion-mnist/README.md", False),
    ],
)
def test_what_users_and_scripts_make_stays_out_of_commits(path: str, ignored: bool, tmp_path: Path):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    checked = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=tmp_path, check=False)
    assert checked.returncode == (0 if ignored else 1)


def test_the_clients_stay_out_of_the_image():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    assert not any(".venv" in line or "tests" in line for line in lines)


def test_bundles_that_users_make_stay_out_of_the_image():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert [path for path in let_in if path.startswith("bundles")] == [
        "bundles/clothes",
        "bundles/fashion-mnist",
        "bundles/*/*.onnx",
        "bundles/*/README.md",
        "bundles/*/card.json",
    ]
