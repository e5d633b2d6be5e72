"""How many CPUs a container really may use, and what they can do."""

import os
from pathlib import Path

import pytest

from app import cpus
from app.cpus import has_int8_instructions, usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def version_1(folder: Path, quota: str, period: str) -> None:
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text(period + "\n")


@pytest.mark.parametrize(
    ("cpu_max", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),  # a part of a CPU is one more that can be kept busy
        ("10000 100000", 1),
        ("6400000 100000", 8),  # never more than the affinity
        ("100000 0", 8),
        ("nonsense", 8),
    ],
)
def test_the_quota_of_cgroup_version_2(cpu_max: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max + "\n")
    assert usable_cpus(tmp_path) == count


@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("300000", 3), ("250000", 3)])
def test_the_quota_of_cgroup_version_1(quota: str, count: int, tmp_path: Path) -> None:
    version_1(tmp_path, quota, "100000")
    assert usable_cpus(tmp_path) == count


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 8


def test_without_an_affinity_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cpus(tmp_path) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags : fpu sse2 avx2", False),
        ("flags : fpu avx512f avx512_vnni", True),
        ("flags : fpu avx_vnni", True),
        ("flags : fpu avx512_vnni_but_longer", False),
        ("Features : fp asimd", False),
        ("Features : fp asimddp", True),
        ("Features : i8mm", True),
    ],
)
def test_int8_instructions_are_read_from_the_processors_flags(line: str, native: bool, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\n{line}\nbugs :\n")
    assert has_int8_instructions(cpuinfo) is native


@pytest.mark.parametrize(("machine", "native"), [("arm64", True), ("x86_64", False)])
def test_without_proc_only_apples_processors_are_known(
    machine: str, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus.platform, "machine", lambda: machine)
    assert has_int8_instructions(tmp_path / "missing") is native
