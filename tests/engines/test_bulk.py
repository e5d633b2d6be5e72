"""Ray Data, Spark and Daft write the rows that `mixer classify` writes, of the same pictures."""

import shutil
import signal
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.app.servers import ROOT, until
from tests.engines.conftest import ENGINES, Rows, environment, run, written

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(900)]

JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs java, which is not installed")


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    """The same pictures as a column of a Parquet file, with their paths."""
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    columns = {"path": [str(path) for path in files], "picture": [path.read_bytes() for path in files]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


@JAVA
def test_spark(expected: Rows, pictures: Path, table: Path, bundle: Path, tmp_path: Path) -> None:
    rows = expected(pictures)
    run("spark/classify.py", pictures, tmp_path / "files", bundle)
    assert written(tmp_path / "files", rows.schema) == rows
    run("spark/classify.py", table, tmp_path / "column", bundle, "picture")
    assert written(tmp_path / "column", rows.schema) == rows


def test_daft(expected: Rows, pictures: Path, table: Path, bundle: Path, tmp_path: Path) -> None:
    rows = expected(pictures)
    run("daft/classify.py", f"{pictures}/**/*.*", tmp_path / "files", bundle)
    assert written(tmp_path / "files", rows.schema) == rows
    run("daft/classify.py", table, tmp_path / "column", bundle, "picture")
    assert written(tmp_path / "column", rows.schema) == rows


def test_ray_data(expected: Rows, pictures: Path, table: Path, bundle: Path, tmp_path: Path) -> None:
    sources = (f"{pictures}/0", f"{pictures}/1/*.png", f"{pictures}/*.*", f"{table}::picture", tmp_path / "none.png")
    rows = expected(*sources, flags=("--top-k", 2))
    flags = ("--output", tmp_path / "ray", "--bundle", bundle, "--top-k", 2, "--shard-size", 20)
    told = run("ray/classify.py", *sources, *flags, code=1)
    assert f"has {len(rows)} pictures, 5 of them with an error." in told
    assert written(tmp_path / "ray", rows.schema) == rows
    assert (tmp_path / "ray" / "_SUCCESS").exists()


def test_ray_data_goes_on_after_a_kill(expected: Rows, pictures: Path, bundle: Path, tmp_path: Path) -> None:
    for at in range(1_000):
        shutil.copy(pictures / "0" / "00.png", pictures / "0" / f"more-{at:04}.png")
    rows, output = expected(pictures), tmp_path / "ray"
    flags = [str(pictures), "--output", str(output), "--bundle", str(bundle), "--shard-size", "10"]
    command = [str(ENGINES), str(ROOT / "deploy" / "ray" / "classify.py"), *flags]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True) as process:
        until(lambda: len(list(output.glob("part-*"))) >= 10)
        process.send_signal(signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    assert 10 <= len(before) < 107
    assert not (output / "_SUCCESS").exists()
    run("ray/classify.py", *flags, "--resume", "--max-failure-rate", "0.01")
    assert written(output, rows.schema) == rows
    assert all((output / name).stat().st_mtime_ns == at for name, at in before.items())


def test_ray_data_stops_where_too_many_fail(pictures: Path, bundle: Path, tmp_path: Path) -> None:
    for at in range(200):
        (pictures / "0" / f"none-{at:03}.png").write_bytes(b"no picture")
    flags = (pictures, "--output", tmp_path / "ray", "--bundle", bundle, "--shard-size", 20)
    run("ray/classify.py", *flags, "--max-failure-rate", 0.05, code=1)
    assert not (tmp_path / "ray" / "_SUCCESS").exists()
    told = run("ray/classify.py", *flags, "--resume", "--top-k", 2, code=1)
    assert "was begun with the option top_k not set, and this command has 2; expected the same to --resume." in told
