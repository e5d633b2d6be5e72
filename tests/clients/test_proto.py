"""The messages of gRPC are those of the clients: names, numbers, types, labels and groups of every field."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.app.servers import ROOT
from tests.clients.conftest import Judge

PROTO = ROOT / "app" / "rpc" / "open_inference.proto"
pytestmark = [pytest.mark.process, pytest.mark.skipif(not PROTO.exists(), reason="the service speaks no gRPC")]

CORE = ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"]
OF_TRITON = [*CORE, "ModelStreamInfer", "ModelConfig", "ModelStatistics", "RepositoryIndex"]
SDKS = pytest.mark.parametrize(("sdk", "rpcs"), [("tritonclient", OF_TRITON), ("kserve", CORE)])


@pytest.fixture(scope="module")
def ours(judges: Callable[[str], Judge]) -> Any:
    return judges("protos")("of_file", path=str(PROTO))


@pytest.fixture
def theirs(judges: Callable[[str], Judge], sdk: str) -> Iterator[Any]:
    """A process of its own: the messages of two SDKs do not go into one."""
    assert judges
    with Judge("protos") as judge:
        yield judge("of_sdk", name=sdk)


@SDKS
def test_methods_take_and_give_the_same_messages(ours: Any, theirs: Any, rpcs: list[str]):
    for rpc in rpcs:
        path = f"inference.GRPCInferenceService/{rpc}"
        assert ours["methods"][path] == theirs["methods"][path], path


@SDKS
def test_every_field_that_both_know_is_the_same(ours: Any, theirs: Any, rpcs: list[str]):
    assert rpcs
    shared = ours["messages"].keys() & theirs["messages"].keys()
    assert len(shared) >= 20
    for message in shared:
        mine, other = ours["messages"][message], theirs["messages"][message]
        for field in mine.keys() & other.keys():
            assert mine[field] == other[field], f"{message}.{field}"


@SDKS
def test_no_number_has_another_field_than_the_clients(ours: Any, theirs: Any, rpcs: list[str]):
    assert rpcs
    for message in ours["messages"].keys() & theirs["messages"].keys():
        mine, other = (numbers(one["messages"][message]) for one in (ours, theirs))
        for number in mine.keys() & other.keys():
            assert mine[number] == other[number], f"{message} {number}"


@SDKS
def test_no_field_of_the_protocol_itself_is_left_out(ours: Any, theirs: Any, rpcs: list[str]):
    assert rpcs
    for rpc in CORE:
        for message in (f".inference.{rpc}Request", f".inference.{rpc}Response"):
            assert theirs["messages"][message].keys() <= ours["messages"][message].keys(), message


def test_statistics_have_every_field_that_tritonclient_reads(ours: Any, judges: Callable[[str], Judge]):
    with Judge("protos") as judge:
        triton = judge("of_sdk", name="tritonclient")
    assert judges
    for message in ("StatisticDuration", "InferStatistics", "InferBatchStatistics"):
        name = f".inference.{message}"
        assert ours["messages"][name] == triton["messages"][name]


def numbers(fields: dict[str, Any]) -> dict[int, str]:
    """Of a message, by number; of an enum, by value."""
    return {value[0] if isinstance(value, list) else value: name for name, value in fields.items()}
