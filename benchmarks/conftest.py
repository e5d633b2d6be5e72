"""The tests of the drivers run as those of tests/ do: `scripts/test benchmarks`."""

from tests.conftest import pytest_collection_finish, pytest_collection_modifyitems

__all__ = ["pytest_collection_finish", "pytest_collection_modifyitems"]
