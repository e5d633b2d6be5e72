import os
from pathlib import Path

import pytest

from model.data.machine import decoding_threads, memory_bytes, picture_bytes

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("memory.max", "1000000", 1_000_000),
        ("memory.max", "max", MACHINE),
        ("memory/memory.limit_in_bytes", "2000000\n", 2_000_000),
        ("memory/memory.limit_in_bytes", str(1 << 62), MACHINE),
        ("other", "1", MACHINE),
    ],
)
def test_the_containers_limit_counts_where_it_is_less_than_the_machines(
    tmp_path: Path, name: str, content: str, expected: int
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert memory_bytes(tmp_path) == expected


def test_processes_on_one_machine_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone, threads = picture_bytes(), decoding_threads()
    assert alone == memory_bytes() // 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert picture_bytes() == alone // 4
    assert decoding_threads() == max(1, threads // 4)
