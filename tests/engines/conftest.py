"""Engines in processes of their own, from .venv-engines, pictures for them, and the rows of `mixer classify`."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.app.color_bundle import RED, image
from tests.app.servers import PATIENCE_S, ROOT, clean_environment
from tests.cli.conftest import bundle, engine, images, mixer, no_options_from_outside

__all__ = ["bundle", "engine", "images", "mixer", "no_options_from_outside"]

ENGINES = ROOT / ".venv-engines" / "bin" / "python"
MISSING = "scripts/install-engines brings them"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_worker_register_timeout_seconds": "300",
}
Rows = Callable[..., pa.Table]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not ENGINES.exists():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=MISSING))


def environment(**variables: str) -> dict[str, str]:
    """For a process of an engine, which imports this repository."""
    return clean_environment(**QUIET, PYTHONPATH=str(ROOT), PYTHONWARNINGS="ignore", **variables)


def run(script: str, *arguments: object, code: int = 0, **variables: str) -> str:
    """The standard error of a script of deploy/, which ends with this exit code."""
    command = [str(ENGINES), str(ROOT / "deploy" / script), *map(str, arguments)]
    ended = subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False
    )
    assert ended.returncode == code, ended.stderr[-3000:]
    return ended.stderr


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty small pictures in two folders, and files that are none."""
    folder = tmp_path / "pictures"
    for at in range(60):
        path = folder / str(at % 2) / f"{at:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image([(255, 0, 0), (0, 255, 0), (0, 0, 255)][at % 3]))
    (folder / "broken.png").write_bytes(image(RED, size=(99, 99))[:60])
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def expected(mixer: Callable[..., int], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """What `mixer classify` writes for sources."""
    monkeypatch.setenv("MIXER_WORKERS", "1")

    def rows(*sources: object, flags: tuple[object, ...] = ()) -> pa.Table:
        output = tmp_path / f"cli-{sum(1 for _ in tmp_path.iterdir())}.parquet"
        mixer("classify", *sources, "--bundle", bundle, "--output", output, *flags)
        return pq.read_table(output).sort_by("path")

    return rows


def written(output: Path, schema: Any) -> pa.Table:
    """The rows of an engine's output, by path."""
    return pq.read_table(output).select(schema.names).cast(schema).sort_by("path")
