"""Every test of model/ runs torch on one thread, and hypothesis without a clock."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("model", deadline=None, max_examples=40)
settings.load_profile("model")  # a test takes the profile that is in force when its module is read


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
