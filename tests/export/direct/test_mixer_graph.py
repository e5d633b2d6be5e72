"""A graph that is written node by node is the one that torch.onnx traces, operator by operator and number by number."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.direct.mixer_graph import mixer_graph
from export.direct.onnx_file import write_model
from export.graph import Form
from export.to_onnx import write_graph
from model.network import foreign, zoo
from model.network.checkpoint import Checkpoint
from model.preprocess import patchify
from model.weights.mixer_weights import MixerWeights
from model.weights.tensor_file import held
from tests.export.toy_checkpoints import noise, toy_checkpoint

VECTORS = Path(__file__).parents[2] / "vectors"
FORMS: tuple[Form, ...] = get_args(Form)
Node = tuple[str, list[Any], dict[str, Any]]


def weights_of(checkpoint: Checkpoint) -> MixerWeights:
    state = checkpoint.model.state_dict()
    return MixerWeights(checkpoint.model.config, {name: held(tensor.numpy()) for name, tensor in state.items()})


def written(weights: MixerWeights, form: Form, folder: Path) -> Path:
    write_model(*mixer_graph(weights, form), folder / "written.onnx")
    return folder / "written.onnx"


def traced(checkpoint: Checkpoint, form: Form, folder: Path) -> Path:
    write_graph(checkpoint.model, folder / "traced.onnx", form)
    return folder / "traced.onnx"


def without_names(path: Path) -> tuple[list[Node], list[NDArray[Any]]]:
    """Nodes with the places of what they take, and the constants in the order in which they are taken."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    places: dict[str, Any] = {value.name: value.name for value in graph.input}
    nodes, constants = [], []
    for index, node in enumerate(graph.node):
        for name in node.input:
            if name in stored and name not in places:
                places[name] = f"constant {len(constants)}"
                constants.append(stored[name])
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        nodes.append((node.op_type, [places[name] for name in node.input], attributes))
        places |= dict.fromkeys(node.output, f"node {index}")
    assert [places[value.name] for value in graph.output] == [places["logits"], places["embedding"]]
    return nodes, constants


def expect_the_same_graph(found: Path, expected: Path) -> None:
    (nodes, constants), (other_nodes, other_constants) = without_names(found), without_names(expected)
    assert nodes == other_nodes
    for constant, other in zip(constants, other_constants, strict=True):
        assert (constant.dtype, constant.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(constant, other, rtol=1e-6, atol=0)


def outputs(path: Path, patches: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    return list(onnxruntime.InferenceSession(path).run(None, {"patches": patches}))


@pytest.mark.heavy
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("channels_mlp_dim", "head_hidden_dim"), [(24, 0), (2048, 0), (24, 20)])
def test_it_is_the_graph_that_torch_traces(form: Form, channels_mlp_dim: int, head_hidden_dim: int, tmp_path: Path):
    checkpoint = toy_checkpoint(channels_mlp_dim=channels_mlp_dim, head_hidden_dim=head_hidden_dim)
    found, expected = written(weights_of(checkpoint), form, tmp_path), traced(checkpoint, form, tmp_path)
    expect_the_same_graph(found, expected)
    patches = patchify(noise(3), 4)
    for ours, theirs in zip(outputs(found, patches), outputs(expected, patches), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.ptp(theirs))


@pytest.mark.heavy
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["google_tiny.npz", "timm_tiny.safetensors"])
def test_so_it_is_for_public_layouts_and_for_both_gelus(form: Form, file: str, tmp_path: Path):
    found = written(foreign.read(VECTORS / file).weights, form, tmp_path)
    expect_the_same_graph(found, traced(zoo.read(VECTORS / file), form, tmp_path))


@pytest.mark.parametrize("form", ["fp32", "rows"])
@pytest.mark.parametrize("file", ["google_tiny", "timm_tiny"])
def test_it_gives_the_reference_implementations_numbers(form: Form, file: str, tmp_path: Path):
    (path,) = VECTORS.glob(f"{file}.*")
    reference = np.load(VECTORS / f"{file}_io.npz")
    logits, embedding = outputs(written(foreign.read(path).weights, form, tmp_path), patchify(reference["pixels"], 4))
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(embedding, reference["pre_logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_hidden_layer_of_the_head_changes_the_logits_as_in_torch_and_leaves_the_embedding(form: Form, tmp_path: Path):
    checkpoint = toy_checkpoint(head_hidden_dim=20)
    pixels = noise(3)
    logits, embedding = outputs(written(weights_of(checkpoint), form, tmp_path), patchify(pixels, 4))
    with torch.inference_mode():
        expected = checkpoint.model.embed(torch.from_numpy(patchify(pixels, 4)))
        of_torch = checkpoint.model.classify(expected)
    atol = 1e-2 if form == "fp16" else 1e-5
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=atol * np.ptp(expected.numpy()))
    np.testing.assert_allclose(logits, of_torch, rtol=0, atol=atol * np.ptp(of_torch.numpy()))


@pytest.mark.parametrize("form", FORMS)
def test_the_ends_are_named_typed_and_shaped_as_the_service_expects(form: Form, tmp_path: Path):
    session = onnxruntime.InferenceSession(written(weights_of(toy_checkpoint()), form, tmp_path))
    (patches,) = session.get_inputs()
    assert (patches.name, patches.type, patches.shape) == ("patches", "tensor(uint8)", ["batch", 9, 48])
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("logits", "tensor(float)", ["batch", 4]),
        ("embedding", "tensor(float)", ["batch", 16]),
    ]


def test_no_tensor_is_read_before_it_is_written():
    read: list[str] = []
    weights = weights_of(toy_checkpoint(channels_mlp_dim=2048))

    def noted(name: str) -> Any:
        return lambda: (read.append(name), weights.tensors[name].read())[1]

    tensors = {name: type(tensor)(tensor.shape, noted(name)) for name, tensor in weights.tensors.items()}
    _, constants = mixer_graph(MixerWeights(weights.config, tensors), "fp32")
    assert read == []
    for constant in constants:
        constant.read()
    assert set(read) == set(tensors)
    assert len(read) == len(tensors), "a tensor in parts is read once for all of them"
