"""How many CPUs a container really may use, and what they can do."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.system import cpu_limits
from app.system.cpu_limits import instances_and_threads, int8_instructions, share_of_cpus, usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """Where cgroups are mounted, of a process at its top."""
    (tmp_path / "membership").write_text("0::/\n")
    return tmp_path


def usable(top: Path) -> int:
    return usable_cpus(top, top / "membership")


def version_1(folder: Path, quota: str, period: str = "100000") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu.cfs_period_us").write_text(period + "\n")


def version_2(folder: Path, cpu_max: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(cpu_max + "\n")


@pytest.mark.parametrize(
    ("cpu_max", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),  # a part of a CPU is one more that can be kept busy
        ("10000 100000", 1),
        ("6400000 100000", 8),  # never more than the affinity
        ("100000 0", 8),
        ("100000 nonsense", 8),
        ("nonsense", 8),
    ],
)
def test_the_quota_of_cgroup_version_2(cpu_max: str, count: int, top: Path) -> None:
    version_2(top, cpu_max)
    assert usable(top) == count


@pytest.mark.parametrize(
    ("own", "around", "outermost", "count"),
    [
        ("300000 100000", "max 100000", "max 100000", 3),
        ("max 100000", "200000 100000", "max 100000", 2),
        ("600000 100000", "200000 100000", "500000 100000", 2),
        ("600000 100000", "700000 100000", "40000 10000", 4),
    ],
)
def test_in_nested_groups_of_version_2_the_least_quota_counts(
    own: str, around: str, outermost: str, count: int, top: Path
) -> None:
    (top / "membership").write_text("0::/system.slice/mixer:1.service\n")
    version_2(top / "system.slice" / "mixer:1.service", own)
    version_2(top / "system.slice", around)
    version_2(top, outermost)
    version_2(top / "another.slice", "100000 100000")  # not ours
    assert usable(top) == count


@pytest.mark.parametrize("path", ["/docker/0123", "/../sibling", "/kubepods/../elsewhere"])
def test_a_container_that_sees_its_own_group_at_the_top_counts_that(path: str, top: Path) -> None:
    (top / "membership").write_text(f"0::{path}\n")
    version_2(top, "300000 100000")
    version_2(top.parent / "sibling", "100000 100000")
    assert usable(top) == 3


@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("300000", 3), ("250000", 3)])
def test_the_quota_of_cgroup_version_1(quota: str, count: int, top: Path) -> None:
    version_1(top / "cpu", quota)
    assert usable(top) == count


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(
    ("own", "around", "count"), [("300000", "-1", 3), ("-1", "200000", 2), ("300000", "500000", 3)]
)
def test_in_nested_groups_of_version_1_the_least_quota_counts(
    mount: str, own: str, around: str, count: int, top: Path
) -> None:
    (top / "membership").write_text("5:memory:/elsewhere\n4:cpu,cpuacct:/jobs/7\n1:name=systemd:/jobs/8\n0::/\n")
    version_1(top / mount / "jobs" / "7", own)
    version_1(top / mount / "jobs", around)
    version_1(top / mount / "jobs" / "8", "100000")
    version_1(top / mount / "elsewhere", "100000")
    assert usable(top) == count


def test_without_a_quota_the_affinity_counts(top: Path) -> None:
    assert usable(top) == 8
    (top / "membership").write_text("what is\nthis\n")
    assert usable(top) == 8
    (top / "membership").unlink()
    assert usable(top) == 8


@pytest.mark.parametrize(
    ("cpus", "instances", "threads", "chosen"),
    [
        (8, 0, 0, (8, 1)),
        (1, 0, 0, (1, 1)),
        (8, 2, 0, (2, 4)),
        (8, 3, 0, (3, 2)),
        (2, 5, 0, (5, 1)),
        (8, 0, 2, (4, 2)),
        (8, 0, 3, (2, 3)),
        (2, 0, 5, (1, 5)),
        (2, 5, 7, (5, 7)),  # whoever says both gets both
    ],
)
def test_instances_and_threads_keep_the_cpus_busy(
    cpus: int, instances: int, threads: int, chosen: tuple[int, int]
) -> None:
    assert instances_and_threads(cpus, instances, threads) == chosen


@given(st.integers(1, 512), st.integers(0, 256), st.integers(0, 256))
def test_what_is_chosen_is_never_more_than_the_cpus(cpus: int, instances: int, threads: int) -> None:
    chosen_instances, chosen_threads = instances_and_threads(cpus, instances, threads)
    assert chosen_instances == instances or 1 <= chosen_instances * chosen_threads <= max(cpus, threads)
    assert chosen_threads == threads or 1 <= chosen_instances * chosen_threads <= max(cpus, instances)


def test_without_an_affinity_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cpus(tmp_path, tmp_path / "membership") == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path, tmp_path / "membership") == 1


@pytest.mark.parametrize(
    ("line", "best"),
    [
        ("flags : fpu sse2 sse4_1 avx", None),
        ("flags : fpu sse2 avx2", "avx2"),
        ("flags : fpu avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("flags : fpu avx2 avx_vnni", "avx_vnni"),
        ("flags : fpu avx512_vnni_but_longer", None),
        ("Features : fp asimd", None),
        ("Features : fp asimddp", "asimddp"),
        ("Features : asimddp i8mm", "i8mm"),
    ],
)
def test_int8_instructions_are_read_from_the_processors_flags(line: str, best: str | None, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\n{line}\nbugs :\n")
    assert int8_instructions(cpuinfo) == best


@pytest.mark.parametrize(("machine", "best"), [("arm64", "asimddp"), ("x86_64", None)])
def test_without_proc_only_apples_processors_are_known(
    machine: str, best: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_limits.platform, "machine", lambda: machine)
    assert int8_instructions(tmp_path / "missing") == best


@given(st.sets(st.integers(0, 200), min_size=1, max_size=40), st.integers(1, 40))
def test_each_cpu_is_one_workers_and_each_worker_has_as_many_as_the_others(cpus: set[int], workers: int) -> None:
    shares = [share_of_cpus(number, workers, cpus) for number in range(workers)]
    assert set().union(*shares) == cpus
    sizes = [len(share) for share in shares]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    if workers <= len(cpus):
        assert sum(sizes) == len(cpus)
        assert [cpu for share in shares for cpu in sorted(share)] == sorted(cpus)  # neighbours are together
    else:
        held = [sum(cpu in share for share in shares) for cpu in cpus]
        assert max(held) - min(held) <= 1
