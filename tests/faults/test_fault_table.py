"""docs/security.md names a test for every fault, and every test that it names is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "security.md"


def test_every_test_that_the_table_names_exists() -> None:
    named = re.findall(r"`([\w/]*\.py)?::(test_\w+)`", PAGE.read_text())
    assert len(named) > 40
    file = ""
    for written, test in named:
        file = written or file
        assert f"def {test}(" in (TESTS / file).read_text(), f"{file}::{test}"


def test_every_test_of_the_suite_about_a_fault_is_in_the_table() -> None:
    page = PAGE.read_text()
    for kind in ("hostile_images", "hostile_clients", "failing_engines", "dying_processes", "endless_decodes"):
        file = f"test_{kind}.py"
        for test in re.findall(r"^def (test_\w+)", (TESTS / "faults" / file).read_text(), re.MULTILINE):
            assert test in page or test == "test_headers_of_ordinary_size_pass", test
