"""The tensors that follow from sizes are those that the torch module has, in its order."""

import pytest

from model.network.mixer import MlpMixer
from model.weights.config import VARIANTS, MixerConfig, tensor_shapes
from tests.model.toys import toy_config


@pytest.mark.parametrize("head_hidden_dim", [0, 11])
def test_names_and_shapes_are_those_of_the_torch_module(head_hidden_dim: int):
    config = toy_config(num_blocks=3, head_hidden_dim=head_hidden_dim)
    expected = [(name, tuple(tensor.shape)) for name, tensor in MlpMixer(config).state_dict().items()]
    assert list(tensor_shapes(config)) == expected


def test_a_hidden_layer_of_the_head_is_written_only_where_there_is_one():
    assert "head_hidden_dim" not in toy_config().written()
    deep = toy_config(head_hidden_dim=11)
    assert MixerConfig(**deep.written()) == deep
    assert MixerConfig(**toy_config().written()) == toy_config()


@pytest.mark.parametrize(("variant", "millions"), [("S/16", 18.5), ("B/16", 59.9), ("L/16", 208.2), ("H/14", 432.3)])
def test_the_papers_variants_have_as_many_parameters_as_it_says(variant: str, millions: float):
    count = sum(out * (rest[0] if rest else 1) for _, (out, *rest) in tensor_shapes(VARIANTS[variant]))
    assert count / 1e6 == pytest.approx(millions, abs=0.06)
