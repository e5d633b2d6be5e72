"""What is published is proved, carries its canary, and replaces the old files; what fails leaves none behind."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from export.bundle import ExportData, Published, export_data_of, generated_images, publish
from export.parity import THRESHOLDS, GraphRunner
from export.to_onnx import TorchNetwork
from model.data.dataset import ImageSet
from model.errors import ExportError
from model.network.checkpoint import Checkpoint, torch_logits
from model.preprocess import Pixels, to_patches, to_pixels
from model.spec import METADATA_KEY, PRECISION_KEY, Fit, ModelSpec, Network, Precision
from tests.export.toy_checkpoints import clear_images, noise, toy_checkpoint
from tests.export.toy_graphs import op_types

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
TOLERANCE = {"fp32": 0.001, "fp16": 0.01, "int8": 0.01}  # of a canary, relative to the range of its logits


def metadata(path: Path) -> tuple[ModelSpec, str]:
    stored = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    return ModelSpec.model_validate_json(stored[METADATA_KEY]), stored[PRECISION_KEY]


def scales_of(path: Path) -> str | None:
    """Where an int8 graph's scales come from, as its metadata say."""
    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map.get("mixer.int8_scales")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_stale_graphs(folder: Path) -> Path:
    """A bundle that an earlier export left behind."""
    for precision in PRECISIONS:
        (folder / f"{precision}.onnx").write_bytes(b"of another network")
    (folder / "README.md").write_text("about this classifier")
    return folder


# --- what a bundle holds ---


def test_a_bundle_is_three_proved_graphs(bundle: Published, images: Pixels):
    assert bundle.refused == {}
    assert tuple(bundle.graphs) == PRECISIONS
    folder = bundle.graphs["fp32"].path.parent
    assert sorted(path.name for path in folder.iterdir()) == ["fp16.onnx", "fp32.onnx", "int8.onnx"]
    for precision, graph in bundle.graphs.items():
        assert graph.path == folder / f"{precision}.onnx"
        assert graph.parity.num_pictures == len(images)
        assert graph.parity.relative_difference <= THRESHOLDS[precision].difference
        assert metadata(graph.path) == (graph.spec, precision)


def test_every_graph_has_the_networks_sizes_and_what_the_checkpoint_says(bundle: Published, checkpoint: Checkpoint):
    for graph in bundle.graphs.values():
        assert graph.spec.network == Network(hidden_dim=16, num_blocks=2, tokens_mlp_dim=8, channels_mlp_dim=24)
        found = {"canary": None, "metrics": None, "network": None, "fit": Fit()}
        assert graph.spec.model_copy(update=found) == checkpoint.spec


def test_metrics_are_measured_through_the_graph_itself(bundle: Published):
    for graph in bundle.graphs.values():
        metrics = graph.spec.metrics
        assert metrics is not None
        assert (metrics.data_set, metrics.num_pictures, metrics.top1) == ("forty, test", 40, 0.75)
    errors = {graph.spec.metrics.calibration_error for graph in bundle.graphs.values() if graph.spec.metrics}
    assert len(errors) == 3, "each its own"


def expect_canary(spec: ModelSpec, path: Path, precision: Precision) -> None:
    """It gives its stored logits on the way a picture takes through the service, and a wrong answer is noticed."""
    canary = spec.canary
    assert canary is not None
    pixels = to_pixels(Image.open(io.BytesIO(base64.b64decode(canary.picture))), spec.channels)
    patches = to_patches(pixels, spec)[np.newaxis]
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], {"patches": patches})
    assert np.abs(logits[0] - canary.logits).max() <= canary.atol
    assert canary.atol == pytest.approx(TOLERANCE[precision] * np.ptp(canary.logits), rel=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_canary_gives_its_stored_logits_through_the_service_path(bundle: Published, precision: Precision):
    graph = bundle.graphs[precision]
    expect_canary(graph.spec, graph.path, precision)


def test_every_graph_has_its_own_canary(bundle: Published):
    canaries = [graph.spec.canary for graph in bundle.graphs.values() if graph.spec.canary is not None]
    assert len({canary.logits for canary in canaries}) == 3
    assert len({canary.picture for canary in canaries}) == 1


@pytest.mark.heavy
def test_a_canary_is_one_of_the_checkpoints_own_pictures_where_it_has_some(checkpoint: Checkpoint, tmp_path: Path):
    assert checkpoint.images is not None
    data = ExportData(noise(8), calibration=noise(8))  # pictures that may not be given away
    canary = publish(TorchNetwork(checkpoint), tmp_path, data, precisions=()).graphs["fp32"].spec.canary
    assert canary is not None
    pixels = to_pixels(Image.open(io.BytesIO(base64.b64decode(canary.picture))), 3)
    assert (pixels == checkpoint.images[0]).all()


def test_grey_pictures_have_canaries_too(tmp_path: Path):
    checkpoint = toy_checkpoint(1, fit=Fit(mode="pad"))
    imaged = replace(checkpoint, images=clear_images(checkpoint.model))
    published = publish(TorchNetwork(imaged), tmp_path, precisions=("fp32", "int8"))
    assert tuple(published.graphs) == ("fp32", "int8")
    for precision, graph in published.graphs.items():
        expect_canary(graph.spec, graph.path, precision)


# --- what proves it ---


def test_a_checkpoints_own_pictures_prove_and_calibrate(checkpoint: Checkpoint, images: Pixels):
    export_data = export_data_of(TorchNetwork(checkpoint))
    assert export_data.parity_images is images
    assert export_data.calibration is images
    assert export_data.test is None


@pytest.mark.heavy
def test_without_pictures_generated_ones_prove_and_int8_takes_its_scales_from_rows(tmp_path: Path):
    published = publish(TorchNetwork(toy_checkpoint()), with_stale_graphs(tmp_path), precisions=("int8",))
    assert list(published.graphs) == ["fp32", "int8"], "fp32 is always written"
    assert published.refused == {}
    for precision, graph in published.graphs.items():
        assert graph.parity.num_pictures == 32
        assert graph.parity.relative_difference <= THRESHOLDS[precision].difference
        expect_canary(graph.spec, graph.path, precision)
    assert op_types(tmp_path / "int8.onnx")["ReduceMax"] == 8
    assert scales_of(tmp_path / "int8.onnx") == "rows"
    assert set(contents(tmp_path)) == {"fp32.onnx", "int8.onnx", "README.md"}, "the old fp16 is of another network"
    assert metadata(tmp_path / "fp32.onnx")[0] == published.graphs["fp32"].spec


def test_with_pictures_its_scales_come_from_these(int8: Path):
    assert op_types(int8)["ReduceMax"] == 0
    assert scales_of(int8) == "pictures"


@pytest.mark.heavy
def test_int8_by_row_that_misses_its_bar_is_left_out(tmp_path: Path):
    checkpoint = toy_checkpoint()
    with torch.no_grad():
        for block in checkpoint.model.blocks:
            for mlp in (block.token_mixing, block.channel_mixing):
                mlp.dense_0.bias[0] = 1e6  # beside it, nothing else in the row is left
                mlp.dense_1.weight[:, 0] = 0
    published = publish(TorchNetwork(checkpoint), with_stale_graphs(tmp_path), precisions=("int8",))
    assert list(published.graphs) == ["fp32"]
    assert published.refused["int8"].startswith("int8.onnx is not published: ")
    assert set(contents(tmp_path)) == {"fp32.onnx", "README.md"}


def test_generated_pictures_are_varied_and_the_same_every_time():
    spec = toy_checkpoint(1).spec
    first, second = generated_images(spec), generated_images(spec)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (32, 12, 12, 1)
    assert len(np.unique(first.reshape(32, -1), axis=0)) == 32


# --- what misses its bar ---


@pytest.mark.heavy
def test_fp32_that_misses_its_bar_leaves_the_old_bundle_untouched(checkpoint: Checkpoint, tmp_path: Path):
    before = contents(with_stale_graphs(tmp_path))
    torch.nn.init.constant_(checkpoint.model.head.bias, float("nan"))
    with pytest.raises(ExportError, match=r"fp32.onnx is not published: .* by nan of their range; expected at most"):
        publish(TorchNetwork(checkpoint), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.heavy
def test_fp16_that_misses_its_bar_is_left_out_and_the_others_are_not(checkpoint: Checkpoint, tmp_path: Path):
    with torch.no_grad():
        checkpoint.model.head.weight *= 1e6  # more than half precision holds
    published = publish(TorchNetwork(checkpoint), with_stale_graphs(tmp_path))
    assert list(published.graphs) == ["fp32", "int8"]
    assert list(published.refused) == ["fp16"]
    assert published.earlier.replaced == (tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    assert published.earlier.removed == (tmp_path / "fp16.onnx",)
    assert published.refused["fp16"].startswith("fp16.onnx is not published: its logits differ from torch's by ")
    assert published.refused["fp16"].endswith(" of their range; expected at most 0.02.")
    assert set(contents(tmp_path)) == {"fp32.onnx", "int8.onnx", "README.md"}
    assert metadata(tmp_path / "int8.onnx")[1] == "int8", "not the one that was there"


@pytest.mark.heavy
def test_int8_that_loses_accuracy_is_left_out(
    bundle: Published, checkpoint: Checkpoint, images: Pixels, tmp_path: Path
):
    undecided = noise(20_000, seed=5)
    fp32, int8 = (GraphRunner(bundle.graphs[p].path, 4).logits(undecided).argmax(axis=1) for p in ("fp32", "int8"))
    lost = undecided[fp32 != int8]
    assert len(lost) > 1, "or there is nothing to show"
    test = ("undecided", ImageSet(lost, fp32[fp32 != int8].astype(np.int64)))
    export_data = ExportData(images, calibration=images, test=test)
    published = publish(TorchNetwork(checkpoint), with_stale_graphs(tmp_path), export_data, precisions=("fp32", "int8"))
    assert published.refused == {
        "int8": "int8.onnx is not published: its top-1 is 0.00% and fp32's 100.00%, "
        f"{len(lost)} of {len(lost)} pictures less; expected at most 1 less."
    }
    assert set(contents(tmp_path)) == {"fp32.onnx", "README.md"}


def test_a_bundle_that_cannot_be_written_is_one_clear_error(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"file.bundle cannot be written"):
        publish(TorchNetwork(checkpoint), tmp_path / "file" / "bundle")


# --- a network that has learnt nothing ---


@pytest.mark.heavy
@pytest.mark.parametrize("bias", [0.0, 2.5])
def test_a_network_that_gives_every_picture_the_same_answer_has_no_canary_and_says_so(
    checkpoint: Checkpoint, tmp_path: Path, bias: float
):
    torch.nn.init.zeros_(checkpoint.model.head.weight)
    with torch.no_grad():
        checkpoint.model.head.bias.copy_(bias * torch.arange(4))
    published = publish(TorchNetwork(checkpoint), tmp_path, precisions=("fp32",))
    assert published.warnings[0].startswith("The network gives every picture the same answer")
    assert metadata(tmp_path / "fp32.onnx")[0].canary is None


def test_a_trained_network_is_published_without_a_warning(bundle: Published):
    assert bundle.warnings == ()


# --- what was there before ---


def test_a_folder_of_other_things_is_refused_and_left_as_it_is(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(ExportError, match=r"is no bundle and holds cat; expected a new folder, an empty one or a bu"):
        publish(TorchNetwork(checkpoint), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]


# --- what the engine makes of it ---


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_published_graph_answers_as_torch_does(
    bundle: Published, checkpoint: Checkpoint, images: Pixels, precision: Precision
):
    found = GraphRunner(bundle.graphs[precision].path, checkpoint.spec.patch_size).logits(images)
    expected = torch_logits(checkpoint.model, images)
    most = {"fp32": 1e-6, "fp16": 5e-3, "int8": 5e-2}[precision]
    np.testing.assert_allclose(found, expected, rtol=0, atol=most * float(np.ptp(expected)))


def test_pictures_that_memory_is_not_made_for_are_not_generated():
    spec = toy_checkpoint().spec.model_copy(update={"name": "wide", "image_size": 100_000})
    with pytest.raises(ExportError, match=r"wide sees pictures of 100000 pixels; expected at most 4096, as its graphs"):
        generated_images(spec)
