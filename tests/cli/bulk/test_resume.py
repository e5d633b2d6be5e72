"""Kills and signals, against a real process: every picture has its row once, and no process stays."""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.app.color_bundle import image
from tests.app.servers import PATIENCE_S, ROOT, clean_environment, until
from tests.cli.bulk.conftest import COLORS, color_at

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(240)]

COUNT, SHARD_SIZE = 3_000, 200


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 small pictures in three folders and as many in a tar, and among them some that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [image(color) for color in COLORS.values()]
    for at in range(COUNT):
        path = folder / str(at // 1000) / f"{at:05}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no picture" if at % 500 == 7 else files[at % 3])
    return folder


@contextmanager
def started(*arguments: object) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "cli", "classify", *map(str, arguments)]
    environment = clean_environment(MIXER_WORKERS="2")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(*arguments: object) -> tuple[int, str]:
    with started(*arguments) as process:
        _, told = process.communicate(timeout=PATIENCE_S)
        return process.returncode, told


def shards(manifest: Path) -> int:
    return manifest.read_text().count('"shard"') if manifest.exists() else 0


def children_of(pid: int) -> list[int]:
    return [int(child) for one in Path(f"/proc/{pid}/task").glob("*/children") for child in one.read_text().split()]


def rows_of(output: Path) -> list[tuple[object, ...]]:
    if output.suffix == ".parquet":
        return [tuple(map(str, row.values())) for row in pq.read_table(output).to_pylist()]
    return [tuple(map(str, json.loads(line).items())) for line in output.read_text().splitlines()]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_three_kills_at_random_moments_leave_every_row_once(
    suffix: str, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    source = pictures
    if suffix == "jsonl":
        source = tmp_path / "all.tar"
        with tarfile.open(source, "w") as archive:
            archive.add(pictures, ".")
    output, undisturbed = tmp_path / f"o.{suffix}", tmp_path / f"undisturbed.{suffix}"
    flags = ["--bundle", bundle, "--shard-size", SHARD_SIZE, "--max-failure-rate", "0.01"]
    manifest = output / "_manifest.jsonl" if suffix == "parquet" else tmp_path / f"o.{suffix}.manifest.jsonl"
    pause = random.Random(suffix)
    for kill in range(3):
        least = min(shards(manifest) + pause.randint(1, 4), 4 * kill + 5)
        with started(source, *flags, "--output", output, "--resume") as process:
            until(lambda least=least: shards(manifest) >= least or process.poll() is not None)  # type: ignore[misc]
            assert process.poll() is None, "it ended before it was killed"
            workers = children_of(process.pid)
            process.kill()
            process.wait()
            until(lambda workers=workers: not any(map(_is_alive, workers)))  # type: ignore[misc]
    assert finished(source, *flags, "--output", output, "--resume") == (
        0, f"{output} has 3,000 pictures, 6 of them with an error (their rows say why).\n",
    )  # fmt: skip
    assert finished(source, *flags, "--output", undisturbed)[0] == 0
    rows = rows_of(output)
    assert len(rows) == COUNT
    assert rows == rows_of(undisturbed)
    assert len({row[0] for row in rows}) == COUNT


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_keeps_what_is_done_and_says_how_to_go_on(
    number: signal.Signals, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "o.parquet"
    flags = ["--bundle", bundle, "--output", output, "--shard-size", SHARD_SIZE, "--max-failure-rate", "0.01"]
    with started(pictures, *flags) as process:
        until(lambda: shards(output / "_manifest.jsonl") >= 1)
        os.kill(process.pid, number)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number
    assert told.startswith(f"mixer: stopped; {output} has ")
    assert told.endswith("Go on with the same command and --resume.\n")
    kept = pq.read_table(output).num_rows
    assert SHARD_SIZE <= kept < COUNT
    assert finished(pictures, *flags, "--resume")[0] == 0
    table = pq.read_table(output).to_pylist()
    assert [row["path"] for row in table] == [f"{pictures}/{at // 1000}/{at:05}.png" for at in range(COUNT)]
    assert [row["label"] for row in table] == [None if at % 500 == 7 else color_at(at) for at in range(COUNT)]


def test_memory_does_not_grow_with_the_pictures(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    """Rows of one shard are held, whatever there is before it: the sources are the same 3,000 pictures ten times."""
    output = tmp_path / "o.parquet"
    many = [pictures] * 10
    peaks: list[int] = []
    flags = ["--bundle", bundle, "--output", output, "--shard-size", SHARD_SIZE, "--max-failure-rate", "0.01"]
    with started(*many, *flags) as process:
        for least in (15, 140):
            until(lambda least=least: shards(output / "_manifest.jsonl") >= least or process.poll() is not None)  # type: ignore[misc]
            status = Path(f"/proc/{process.pid}/status").read_text()
            peaks.append(int(status.split("VmHWM:")[1].split()[0]))
    at_3_000, at_28_000 = peaks
    assert at_28_000 < at_3_000 + 15_000, f"the peak was {at_3_000} kB at 3,000 pictures and {at_28_000} kB at 28,000"
