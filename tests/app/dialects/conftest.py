"""The toy bundle under a name that requests can say."""

from pathlib import Path

import pytest

from tests.app.color_bundle import color_spec, write_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As for all tests of app/, in a folder of its classifier's own name."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours", color_spec())
