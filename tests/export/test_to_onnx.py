"""The graph is what DESIGN promises: uint8 patches in, logits and embedding out, one file, lean, its spec inside."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.to_onnx import PatchGraph, write_graph, write_metadata
from model.checkpoint import Checkpoint, torch_logits
from model.errors import ExportError
from model.preprocess import Pixels, patchify
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec


@pytest.fixture
def graph_path(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "graph.onnx"
    write_graph(checkpoint.model, path)
    return path


def test_normalisation_is_inside_the_stem(checkpoint: Checkpoint, pictures: Pixels):
    logits, _ = PatchGraph(checkpoint.model)(torch.from_numpy(patchify(pictures, 4)))
    np.testing.assert_allclose(logits.detach().numpy(), torch_logits(checkpoint.model, pictures), atol=1e-5)


def test_inputs_and_outputs_have_their_names_types_and_shapes(graph_path: Path):
    session = onnxruntime.InferenceSession(graph_path)
    (patches,) = session.get_inputs()
    assert (patches.name, patches.type, patches.shape[1:]) == ("patches", "tensor(uint8)", [9, 48])
    assert isinstance(patches.shape[0], str), "the batch is dynamic"
    assert [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()] == [
        ("logits", "tensor(float)", [4]),
        ("embedding", "tensor(float)", [16]),
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 17])
def test_any_batch_size_runs(graph_path: Path, checkpoint: Checkpoint, pictures: Pixels, batch_size: int):
    patches = patchify(pictures[:batch_size], 4)
    logits, embedding = onnxruntime.InferenceSession(graph_path).run(None, {"patches": patches})
    np.testing.assert_allclose(logits, torch_logits(checkpoint.model, pictures[:batch_size]), atol=1e-5)
    with torch.inference_mode():
        np.testing.assert_allclose(embedding, checkpoint.model.embed(torch.from_numpy(patches)).numpy(), atol=1e-5)


def test_everything_is_in_one_file(graph_path: Path):
    assert [path.name for path in graph_path.parent.iterdir()] == [graph_path.name]
    assert not any(tensor.external_data for tensor in onnx.load(graph_path).graph.initializer)


def test_gelu_and_layer_norm_stay_one_node_each(graph_path: Path):
    counts: dict[str, int] = {}
    for node in onnx.load(graph_path).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    assert counts["Gelu"] == 4, "two blocks with two MLPs"
    assert counts["LayerNormalization"] == 5, "two a block and the one before the head"
    assert counts["Cast"] == 1
    assert not {"Sub", "Div", "Shape", "Reshape", "Erf", "Tanh"} & counts.keys()


def test_the_first_operation_after_the_cast_is_the_projection(graph_path: Path):
    graph = onnx.load(graph_path).graph
    (cast,) = (node for node in graph.node if "patches" in node.input)
    followers = [node.op_type for node in graph.node if cast.output[0] in node.input]
    assert (cast.op_type, followers) == ("Cast", ["MatMul"])


def test_metadata_carries_the_spec_and_the_precision(graph_path: Path, checkpoint: Checkpoint):
    write_metadata(graph_path, checkpoint.spec, "fp32")
    metadata = onnxruntime.InferenceSession(graph_path).get_modelmeta().custom_metadata_map
    assert ModelSpec.model_validate_json(metadata[METADATA_KEY]) == checkpoint.spec
    assert metadata[PRECISION_KEY] == "fp32"


def test_writing_metadata_twice_keeps_the_second(graph_path: Path, checkpoint: Checkpoint):
    write_metadata(graph_path, checkpoint.spec, "fp32")
    write_metadata(graph_path, checkpoint.spec.model_copy(update={"version": "2"}), "fp32")
    metadata = {entry.key: entry.value for entry in onnx.load(graph_path).metadata_props}
    assert json.loads(metadata[METADATA_KEY])["version"] == "2"


def test_a_graph_that_is_no_valid_onnx_is_refused(graph_path: Path, checkpoint: Checkpoint):
    broken = onnx.load(graph_path)
    broken.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(broken, graph_path)
    with pytest.raises(ExportError, match="not valid ONNX"):
        write_metadata(graph_path, checkpoint.spec, "fp32")


def test_a_network_that_cannot_be_exported_is_one_clear_error(checkpoint: Checkpoint, tmp_path: Path):
    with pytest.raises(ExportError, match="cannot be exported"):
        write_graph(checkpoint.model, tmp_path / "no" / "such" / "folder" / "graph.onnx")
