"""Which dialects are spoken, as the settings say it."""

import pytest

from app.dialects.names import NAMES
from app.errors import BadSettings
from app.settings import Settings, load


@pytest.mark.parametrize(
    ("said", "spoken"),
    [("all", NAMES), ("none", ()), ("", ()), ("oip", ("oip",)), (" oip , huggingface", ("oip", "huggingface"))],
)
def test_all_none_or_some(said: str, spoken: tuple[str, ...]) -> None:
    assert Settings(dialects=said).spoken == spoken


@pytest.mark.parametrize(
    ("said", "meant"),
    [("triton", "expected oip;"), ("hugginface", "expected huggingface;"), ("none,oip", "none is no dialect"),
     ("all,oip", "all is no dialect"), ("x", "expected all, none, or some of huggingface"),
     ("grpc", "expected MIXER_GRPC_PORT;")],
)  # fmt: skip
def test_a_name_that_is_none_is_told_the_one_that_was_meant(said: str, meant: str) -> None:
    with pytest.raises(BadSettings, match="is no dialect") as told:
        load(["--dialects", said])
    assert meant in str(told.value)


def test_grpc_needs_a_port_of_its_own() -> None:
    with pytest.raises(BadSettings, match="grpc_port is 8000, which is port or admin_port, too"):
        load(["--grpc-port", "8000"])
