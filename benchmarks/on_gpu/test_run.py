"""One section costs no other, whatever becomes of it, and some may be chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.on_gpu import requirements, run
from benchmarks.on_gpu.http import section as http_section
from benchmarks.on_gpu.sections import Section, write

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(600)]


def main(out: Path, *flags: str) -> int:
    code = gpu.main(gpu.parsed(["--provider", "cpu", "--quick", "--out", str(out), *flags]))
    assert isinstance(code, int)
    return code


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One that fails, one whose check does not hold, one that is fine."""

    def broken(machine: object, section: Any) -> None:
        section.say("before it broke")
        raise RuntimeError("broken on purpose")

    def doubtful(machine: object, section: Any) -> None:
        section.expect(False, "not as expected")
        section.figures["seen"] = 1

    def fine(machine: object, section: Any) -> None:
        section.table(("a", "b"), [(1, "x|y")])

    made = {"broken": broken, "doubtful": doubtful, "fine": fine}
    monkeypatch.setattr(run, "SECTIONS", made)
    return made


def test_a_section_that_fails_is_told_and_costs_no_other(
    sections: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path / "a" / "b") == 1
    content = json.loads((tmp_path / "a" / "b" / "gpu.json").read_text())
    assert [(name, section["ok"]) for name, section in content.items()] == [
        ("broken", False), ("doubtful", False), ("fine", True),
    ]  # fmt: skip
    assert "RuntimeError: broken on purpose" in content["broken"]["failures"][0]
    assert content["doubtful"]["failures"] == ["not as expected"]
    assert content["doubtful"]["seen"] == 1
    text = (tmp_path / "a" / "b" / "gpu.md").read_text()
    assert "## broken: FAILED" in text
    assert "before it broke" in text
    assert "RuntimeError: broken on purpose" in text
    assert "| a | b |\n| --- | --- |\n| 1 | x/y |\n" in text
    captured = capsys.readouterr()
    assert [line.split(" (")[0] for line in captured.out.splitlines()] == [
        "broken: FAILED",
        "doubtful: FAILED",
        "fine: ok",
    ]
    assert "broken on purpose" in captured.err


def test_a_section_may_write_what_it_has_while_it_is_under_way(tmp_path: Path) -> None:
    section = Section("http")
    write([section], tmp_path)
    assert json.loads((tmp_path / "gpu.json").read_text())["http"]["verdict"] == "under way"
    assert "## http: under way" in (tmp_path / "gpu.md").read_text()


def test_some_sections_may_be_chosen(
    sections: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path, "--sections", "fine") == 0
    assert list(json.loads((tmp_path / "gpu.json").read_text())) == ["fine"]
    assert main(tmp_path, "--sections", "fine,nonsense") == 2
    assert capsys.readouterr().err == "--sections has nonsense; expected some of broken, doubtful, fine.\n"


def test_after_the_time_limit_nothing_new_is_begun(tmp_path: Path) -> None:
    assert main(tmp_path, "--sections", "throughput,end_to_end,http", "--time-limit-s", "1e-9") == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert "tiny" not in content["throughput"]
    assert content["http"]["skipped"] == "out of time"
    assert "tiny: not measured, out of time." in (tmp_path / "gpu.md").read_text()


def test_without_its_packages_http_alone_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http_section, "HTTP_PACKAGES", {"numpy": "numpy", "no_such": "no-such"})
    assert requirements.missing("cpu", None) == []
    assert main(tmp_path, "--sections", "surroundings,http") == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["http"]["skipped"] == ["no_such: no-such"]
    assert [content[name]["verdict"] for name in ("surroundings", "http")] == ["ok", "skipped"]
    assert "Skipped. Missing: no_such: no-such." in (tmp_path / "gpu.md").read_text()
    captured = capsys.readouterr()
    assert "http: skipped" in captured.out
    assert captured.err == "Skipped. Missing: no_such: no-such.\n"


@pytest.mark.parametrize("flag", ["0,2", "two", "1,,2", ""])
def test_numbers_are_counted_from_one(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.parsed(["--out", "out", "--workers", flag])
    assert "expected numbers from 1 on, separated by commas" in capsys.readouterr().err
