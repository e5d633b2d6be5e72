"""A wheel: what each extra brings, and that the client in it needs httpx alone. Nothing is downloaded."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli.__main__ import _SERVERS
from tests.app.servers import PATIENCE_S, ROOT

pytestmark = [pytest.mark.process, pytest.mark.heavy]

SOURCES = ("app", "cli", "export", "model", "mixer_client", "setup.py", "pyproject.toml", "README.md", "LICENSE")
CLIENTS = ("httpx", "httpcore", "h11", "anyio", "idna", "certifi", "typing_extensions.py")  # httpx and what it needs
MODULES = {"pillow": "PIL", "python-json-logger": "pythonjsonlogger"}  # whose names differ from their packages'


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of a wheel that is built of a copy, without the bundles."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, folder, folder], check=True, timeout=PATIENCE_S, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def needed(unpacked: Path, extra: str) -> set[str]:
    """The packages that an extra brings; of the project's own extras, what those bring."""
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    found: set[str] = set()
    for line in re.findall(r"^Requires-Dist: (.+)$", metadata.read_text(encoding="utf-8"), re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(requirement.name) == "mixer-serve":
            found |= {name for other in requirement.extras for name in needed(unpacked, other)}
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def test_the_client_needs_httpx_alone_and_no_extra_nothing(unpacked: Path) -> None:
    assert needed(unpacked, "client") == {"httpx"}
    assert needed(unpacked, "") == set()


@pytest.mark.parametrize("extra", ["cpu", "gpu", "bulk", "grpc", "otel", "train", "export", "distillation", "dev"])
def test_every_other_extra_brings_the_server(extra: str, unpacked: Path) -> None:
    assert needed(unpacked, "server") <= needed(unpacked, extra)


def test_the_command_knows_what_the_server_needs(unpacked: Path) -> None:
    names = {MODULES.get(name, name.replace("-", "_")) for name in needed(unpacked, "cpu")}
    assert names == _SERVERS


def run(unpacked: Path, tmp_path: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A program that finds the wheel, httpx and nothing else."""
    site = tmp_path / "site"
    site.mkdir()
    for name in CLIENTS:
        (site / name).symlink_to(Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}/site-packages" / name)
    path = f"import sys; sys.path += {[str(unpacked), str(site)]!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", path + program],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def test_the_client_is_imported_by_its_own_name_with_httpx_alone(unpacked: Path, tmp_path: Path) -> None:
    program = (
        "import mixer_client; print(mixer_client.Client('http://host').ready(timeout_s=0.01), mixer_client.__file__)"
    )
    ended = run(unpacked, tmp_path, program)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["False", str(unpacked / "mixer_client" / "__init__.py")]
    assert (unpacked / "mixer_client" / "py.typed").exists()


@pytest.mark.parametrize("command", ["serve", "health", "--help"])
def test_the_command_says_in_one_line_what_it_needs(command: str, unpacked: Path, tmp_path: Path) -> None:
    program = f"sys.argv = ['mixer', {command!r}]\nfrom mixer_serve.cli.__main__ import main\nmain()"
    ended = run(unpacked, tmp_path, program)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(
        r"mixer: (typer|pydantic) is not installed; expected the packages of the server: scripts/install cpu, or "
        r"pip install 'mixer-serve\[cpu\]'\.\n",
        ended.stderr,
    )


def test_the_image_installs_what_the_extras_name_and_never_the_project_itself(tmp_path: Path) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (program,) = re.findall(r'python -c "(import tomllib.*?)" > requirements\.txt', dockerfile, re.DOTALL)
    program = program.replace("\\\n", "").replace("${RUNTIME}", "cpu").replace("${EXTRAS}", "")
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    ).stdout
    names = {canonicalize_name(Requirement(line).name) for line in printed.splitlines()}
    assert {"fastapi", "onnxruntime", "grpcio", "huggingface-hub", "opentelemetry-sdk"} <= names
    assert not {"mixer-serve", "torch"} & names
