"""The memory that a container leaves this process, in either version of control groups and at any depth."""

from pathlib import Path

import pytest

from app.system.cpu_limits import cgroup_folders, memory_bytes

GIGABYTE = 1 << 30


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "membership", "limit"),
    [
        ({}, "0::/", None),
        ({"memory.max": "max"}, "0::/", None),
        ({"memory.max": str(GIGABYTE)}, "0::/", GIGABYTE),
        ({"memory.max": "max", "a/memory.max": "7", "a/b/memory.max": "9"}, "0::/a/b", 7),
        ({"memory.max": "5", "other/memory.max": "3"}, "0::/a", 5),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, "4:memory:/", None),
        ({"memory/memory.limit_in_bytes": str(GIGABYTE)}, "4:memory:/", GIGABYTE),
        ({"memory/a/memory.limit_in_bytes": "11", "cpu/a/memory.limit_in_bytes": "3"}, "4:memory:/a\n5:cpu:/a", 11),
        ({"memory.max": "13"}, "0::/../../outside", 13),
    ],
)
def test_the_least_limit_counts(files: dict[str, str], membership: str, limit: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text + "\n")
    write(tmp_path / "self", membership + "\n")
    assert memory_bytes(tmp_path / "cgroup", tmp_path / "self") == limit


def test_without_a_membership_the_mount_alone_counts(tmp_path: Path) -> None:
    write(tmp_path / "cgroup" / "memory.max", "17")
    assert memory_bytes(tmp_path / "cgroup", tmp_path / "none") == 17


def test_no_folder_leaves_the_mount(tmp_path: Path) -> None:
    write(tmp_path / "self", "0::/../a/../../b\n3:cpu,cpuacct:/c\nnonsense\n")
    assert all(
        tmp_path / "m" in (folder, *folder.parents)
        for folder in cgroup_folders("cpu", tmp_path / "m", tmp_path / "self")
    )
    assert not any(".." in folder.parts for folder in cgroup_folders("cpu", tmp_path / "m", tmp_path / "self"))
