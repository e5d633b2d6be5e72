"""How far a download is: a line for each tenth where nobody looks at a terminal."""

import pytest

from cli.pulling.telling import bytes_told


def test_a_line_tells_each_tenth_once(capsys: pytest.CaptureFixture[str]) -> None:
    with bytes_told("fetching it") as progress:
        for done in range(0, 30_000_001, 500_000):
            progress(done, 30_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"fetching it: {tenth * 10} % of 30 MB" for tenth in range(1, 11)]


def test_what_was_there_before_is_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with bytes_told("fetching it") as progress:
        progress(85, 100)
        progress(95, 100)
    assert capsys.readouterr().err == "fetching it: 90 % of 0 MB\n"


def test_without_a_size_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with bytes_told("fetching it") as progress:
        progress(5, 0)
    assert capsys.readouterr().err == ""
