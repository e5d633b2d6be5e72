"""What a graph says of its own outputs."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.metadata import embedding_dim
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, means_of_patches

SPEC = color_spec()


class Giving(FakeSession):
    """A session whose graph has these outputs beside its logits."""

    def __init__(self, *outputs: tuple[str, str, list[Any]]) -> None:
        super().__init__(SPEC)
        self._outputs = [SimpleNamespace(name=name, type=kind, shape=shape) for name, kind, shape in outputs]

    def get_outputs(self) -> list[Any]:
        return [*super().get_outputs(), *self._outputs]


def test_the_size_of_an_embedding_is_that_of_the_output() -> None:
    assert embedding_dim(FakeSession(SPEC, embedding=means_of_patches)) == SPEC.patch_bytes
    assert embedding_dim(Giving(("embedding", "tensor(float)", ["batch", 7]))) == 7


def test_a_graph_of_logits_alone_has_no_embedding() -> None:
    assert embedding_dim(FakeSession(SPEC)) is None


@pytest.mark.parametrize(
    "output",
    [
        ("features", "tensor(float)", ["batch", 7]),
        ("embedding", "tensor(float16)", ["batch", 7]),
        ("embedding", "tensor(float)", ["batch", "width"]),
        ("embedding", "tensor(float)", ["batch", None]),
        ("embedding", "tensor(float)", ["batch", 4, 7]),
        ("embedding", "tensor(float)", [7]),
        ("embedding", "seq(tensor(float))", []),
    ],
)
def test_an_output_that_is_something_else_is_none(output: tuple[str, str, list[Any]]) -> None:
    assert embedding_dim(Giving(output)) is None
