"""The graph is what DESIGN promises: uint8 patches in, logits and embedding out, one file, lean, its spec inside."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from export.bundle import Published
from export.graph import write_metadata
from export.to_onnx import HalfGraph, RowGraph, write_graph
from model.errors import ExportError
from model.network.checkpoint import Checkpoint, torch_logits
from model.preprocess import Pixels, patchify
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec, Precision
from tests.export.toy_checkpoints import noise
from tests.export.toy_graphs import op_types

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@pytest.fixture
def copied(fp32: Path, tmp_path: Path) -> Path:
    """A graph that a test may change."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(fp32.read_bytes())
    return path


# --- all tokens of a batch as rows ---


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_give_what_the_network_gives(checkpoint: Checkpoint, count: int):
    pixels = noise(count)
    patches = torch.from_numpy(patchify(pixels, 4))
    assert patches.shape[1] != checkpoint.model.config.hidden_dim, "or a transposition could go unseen"
    with torch.inference_mode():
        logits, embedding = RowGraph(checkpoint.model)(patches)
        expected = checkpoint.model.embed(patches)
    np.testing.assert_allclose(logits.numpy(), torch_logits(checkpoint.model, pixels), rtol=0, atol=1e-5)
    np.testing.assert_allclose(embedding.numpy(), expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 17])
def test_any_batch_size_runs(fp32: Path, checkpoint: Checkpoint, images: Pixels, batch_size: int):
    patches = patchify(images[:batch_size], 4)
    logits, embedding = onnxruntime.InferenceSession(fp32).run(None, {"patches": patches})
    np.testing.assert_allclose(logits, torch_logits(checkpoint.model, images[:batch_size]), rtol=0, atol=1e-5)
    with torch.inference_mode():
        expected = checkpoint.model.embed(torch.from_numpy(patches)).numpy()
    np.testing.assert_allclose(embedding, expected, rtol=0, atol=1e-5)


def test_the_first_operation_on_the_floats_is_the_projection(fp32: Path):
    graph = onnx.load(fp32).graph
    by_input = {name: node for node in graph.node for name in node.input}
    path, value = [], "patches"
    while not path or path[-1] != "Gemm":
        node = by_input[value]
        path.append(node.op_type)
        value = node.output[0]
    assert path == ["Cast", "Reshape", "Gemm"]


def test_every_dense_layer_is_one_node_and_so_is_every_gelu_and_layer_norm(fp32: Path):
    counts = op_types(fp32)
    assert counts["Gemm"] == 10, "the stem, two blocks with two MLPs of two layers, the head"
    assert counts["Gelu"] == 4
    assert counts["LayerNormalization"] == 5, "two a block and the one before the head"
    assert counts["Transpose"] == 4, "there and back in each block"
    assert counts["Add"] == 4, "the skip connections"
    assert counts["Cast"] == 1
    assert not {"MatMul", "Sub", "Div", "Shape", "Erf", "Tanh"} & counts.keys()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_runtime_fuses_no_skip_connection_with_a_layer_norm(
    bundle: Published, precision: Precision, tmp_path: Path
):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that what it writes is for this processor
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(bundle.graphs[precision].path, options, providers=["CPUExecutionProvider"])
    counts = op_types(tmp_path / "optimised.onnx")
    assert counts["LayerNormalization"] == 5
    assert counts["SkipLayerNormalization"] == 0


@pytest.mark.heavy
def test_a_network_without_wide_mlps_is_the_same_graph_in_fp32_and_as_rows(checkpoint: Checkpoint, tmp_path: Path):
    write_graph(checkpoint.model, tmp_path / "fp32.onnx")
    write_graph(checkpoint.model, tmp_path / "rows.onnx", "rows")
    assert (tmp_path / "fp32.onnx").read_bytes() == (tmp_path / "rows.onnx").read_bytes()


# --- half precision ---


def test_half_precision_gives_floats_near_the_networks(checkpoint: Checkpoint, images: Pixels):
    with torch.inference_mode():
        logits, embedding = HalfGraph(checkpoint.model)(torch.from_numpy(patchify(images, 4)))
    expected = torch_logits(checkpoint.model, images)
    assert (logits.dtype, embedding.dtype) == (torch.float32, torch.float32)
    difference = np.abs(logits.numpy() - expected).max() / np.ptp(expected)
    assert 1e-7 < difference < 5e-3, "it is rounded, and no more than that"


def test_the_network_that_is_handed_in_stays_as_it_is(checkpoint: Checkpoint, images: Pixels):
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    expected = torch_logits(checkpoint.model, images)
    for graph in (HalfGraph(checkpoint.model), RowGraph(checkpoint.model)):
        graph(torch.from_numpy(patchify(images[:1], 4)))
    after = checkpoint.model.state_dict()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    np.testing.assert_array_equal(torch_logits(checkpoint.model, images), expected)


def test_every_weight_is_stored_in_half_precision(fp16: Path):
    graph = onnx.load(fp16).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 3}
    assert len(types) >= 9 * 2 + 5 * 2 + 2, "kernels, biases, layer norms"
    assert set(types.values()) == {TensorProto.FLOAT16}


def test_the_pixels_mean_comes_off_before_the_first_product_in_half_precision(fp16: Path):
    graph = onnx.load(fp16).graph
    assert [node.op_type for node in graph.node][:3] == ["Cast", "Sub", "MatMul"]


# --- the file ---


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_and_outputs_have_their_names_types_and_shapes(bundle: Published, precision: Precision):
    session = onnxruntime.InferenceSession(bundle.graphs[precision].path)
    (patches,) = session.get_inputs()
    assert (patches.name, patches.type, patches.shape[1:]) == ("patches", "tensor(uint8)", [9, 48])
    assert isinstance(patches.shape[0], str), "the batch is dynamic"
    assert [(o.name, o.type, o.shape[1:]) for o in session.get_outputs()] == [
        ("logits", "tensor(float)", [4]),
        ("embedding", "tensor(float)", [16]),
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_is_whole_and_says_nothing_of_the_machine_it_was_made_on(bundle: Published, precision: Precision):
    path = bundle.graphs[precision].path
    graph = onnx.load(path, load_external_data=False)
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
    content = path.read_bytes()
    for trace in (
        b".py",
        b"site-packages",
        b"Traceback",
        b'File "',
        str(Path.cwd()).encode(),
        str(Path.home()).encode(),
    ):
        assert trace not in content


@pytest.mark.heavy
def test_the_exporter_does_leave_stack_traces_which_are_taken_out(checkpoint: Checkpoint, tmp_path: Path):
    write_graph(checkpoint.model, tmp_path / "graph.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.onnx"]
    assert b"forward" in (tmp_path / "graph.onnx").read_bytes()
    write_metadata(tmp_path / "graph.onnx", checkpoint.spec, "fp32")
    assert b"forward" not in (tmp_path / "graph.onnx").read_bytes()


def test_metadata_carries_the_spec_and_the_precision(copied: Path, checkpoint: Checkpoint):
    write_metadata(copied, checkpoint.spec, "fp16")
    metadata = onnxruntime.InferenceSession(copied).get_modelmeta().custom_metadata_map
    assert ModelSpec.model_validate_json(metadata[METADATA_KEY]) == checkpoint.spec
    assert metadata[PRECISION_KEY] == "fp16"


def test_writing_metadata_twice_keeps_the_second(copied: Path, checkpoint: Checkpoint):
    write_metadata(copied, checkpoint.spec, "fp32")
    write_metadata(copied, checkpoint.spec.model_copy(update={"version": "2"}), "fp32")
    metadata = {entry.key: entry.value for entry in onnx.load(copied).metadata_props}
    assert json.loads(metadata[METADATA_KEY])["version"] == "2"


def test_a_graph_that_is_no_valid_onnx_is_refused(copied: Path, checkpoint: Checkpoint):
    broken = onnx.load(copied)
    broken.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(broken, copied)
    with pytest.raises(ExportError, match="not valid ONNX"):
        write_metadata(copied, checkpoint.spec, "fp32")


@pytest.mark.heavy
def test_a_network_that_cannot_be_exported_is_one_clear_error(checkpoint: Checkpoint, tmp_path: Path):
    with pytest.raises(ExportError, match="cannot be exported"):
        write_graph(checkpoint.model, tmp_path / "no" / "such" / "folder" / "graph.onnx")
