from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor

from export.bundle import publish
from export.to_onnx import TorchNetwork
from model.errors import CheckpointError, TrainingError
from model.network import checkpoint
from model.network.mixer import MlpMixer
from model.preprocess import Pixels
from model.spec import METADATA_KEY
from model.training.teacher import Teacher, read_teacher
from tests.model.toys import random_mixer, random_pixels, toy_config, toy_spec

LABELS = ("light below", "light above")
CPU = torch.device("cpu")


def _read(path: Path, channels: int = 1, labels: tuple[str, ...] = LABELS) -> Teacher:
    return read_teacher(path, labels, channels, CPU)


def _logits(teacher: Teacher, pixels: Pixels) -> Tensor:
    return teacher.logits(torch.from_numpy(pixels), len(LABELS))


def _checkpoint(folder: Path, channels: int = 1, image_size: int = 8) -> MlpMixer:
    model = random_mixer(toy_config(channels=channels, image_size=image_size))
    checkpoint.save(checkpoint.Checkpoint(model, toy_spec(channels=channels, image_size=image_size)), folder)
    return model


def _weights(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(4).normal(0, 0.01, (count, 2)).astype(np.float32)


def _graph(
    path: Path,
    shape: list[int | str],
    kind: int = TensorProto.UINT8,
    *,
    mean_over: tuple[int, ...] = (),
    outputs: tuple[str, ...] = ("scores",),
) -> Path:
    """A graph whose logits are its input, or the means of it over some axes, times _weights()."""
    mixed = _weights(int(np.prod([size for size in shape[1:] if isinstance(size, int)])))
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, mixed.shape, mixed.ravel()),
        helper.make_tensor("flat", TensorProto.INT64, [2], [0, -1]),
        helper.make_tensor("axes", TensorProto.INT64, [len(mean_over)], mean_over),
    ]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0, noop_with_empty_axes=1),
        helper.make_node("Reshape", ["means", "flat"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], [outputs[-1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


# --- a function ---


def test_a_function_teaches_from_uint8_pixels_without_a_gradient() -> None:
    weights = torch.ones(64, 2, dtype=torch.float64, requires_grad=True)
    pixels = random_pixels(3, 8, 8, 1)
    teacher = Teacher(lambda shown: shown.reshape(len(shown), -1).double() @ weights)
    logits = _logits(teacher, pixels)
    assert (logits.dtype, logits.requires_grad) == (torch.float32, False)
    np.testing.assert_allclose(logits[:, 0], pixels.sum((1, 2, 3)))


@pytest.mark.parametrize("shape", [(3, 5), (2, 2), (3,), (3, 2, 1)])
def test_another_number_of_classes_or_pictures_is_named_with_the_teacher(shape: tuple[int, ...]) -> None:
    teacher = Teacher(lambda _: torch.zeros(shape), "somebody")
    with pytest.raises(TrainingError) as caught:
        _logits(teacher, random_pixels(3, 8, 8, 1))
    assert str(caught.value) == f"the teacher somebody gives {shape} for 3 pictures; expected (3, 2)."


# --- a checkpoint ---


@pytest.mark.parametrize("channels", [1, 3])
def test_a_checkpoint_folder_teaches_what_its_network_says(tmp_path: Path, channels: int) -> None:
    model = _checkpoint(tmp_path, channels)
    pixels = random_pixels(5, 8, 8, channels)
    np.testing.assert_array_equal(_logits(_read(tmp_path, channels), pixels), checkpoint.torch_logits(model, pixels))


def test_a_checkpoint_of_another_size_sees_the_pictures_resized(tmp_path: Path) -> None:
    model = _checkpoint(tmp_path, image_size=16)
    plain = np.stack([np.full((8, 8, 1), level, dtype=np.uint8) for level in (7, 200)])
    larger = plain.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(_logits(_read(tmp_path), plain), checkpoint.torch_logits(model, larger), atol=1e-5)


# --- an ONNX graph ---


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT], ids=["uint8", "float"])
@pytest.mark.parametrize("channels_first", [False, True], ids=["NHWC", "NCHW"])
def test_a_graph_of_pixels_teaches_in_either_order_and_type(tmp_path: Path, kind: int, channels_first: bool) -> None:
    pixels = random_pixels(5, 8, 6, 3)
    shape: list[int | str] = ["N", 3, 8, 6] if channels_first else ["N", 8, 6, 3]
    shown = pixels.transpose(0, 3, 1, 2) if channels_first else pixels
    expected = shown.reshape(5, -1).astype(np.float32) @ _weights(8 * 6 * 3)
    np.testing.assert_allclose(_logits(_read(_graph(tmp_path / "t.onnx", shape, kind), 3), pixels), expected, rtol=1e-4)


def test_a_graph_of_another_size_sees_the_pictures_resized_as_pillow_would(tmp_path: Path) -> None:
    pixels = random_pixels(3, 8, 8, 1)
    teacher = _read(_graph(tmp_path / "t.onnx", ["N", 1, 4, 6], TensorProto.FLOAT))
    smaller = [Image.fromarray(image[..., 0]).resize((6, 4), Image.Resampling.BILINEAR) for image in pixels]
    expected = np.stack([np.asarray(image) for image in smaller]).reshape(3, -1) @ _weights(24)
    np.testing.assert_allclose(_logits(teacher, pixels), expected, atol=0.02 * 24)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize("channels_first", [False, True], ids=["NHWC", "NCHW"])
def test_a_graph_for_every_size_sees_the_pictures_as_they_are(tmp_path: Path, channels_first: bool) -> None:
    pixels = random_pixels(4, 8, 10, 3)
    shape: list[int | str] = ["N", 3, "H", "W"] if channels_first else ["N", "H", "W", 3]
    path = _graph(tmp_path / "t.onnx", shape, mean_over=(2, 3) if channels_first else (1, 2))
    expected = pixels.mean((1, 2), dtype=np.float64) @ _weights(3)
    np.testing.assert_allclose(_logits(_read(path, 3), pixels), expected, rtol=1e-4)


def test_the_output_called_logits_goes_before_the_first(tmp_path: Path) -> None:
    pixels = random_pixels(4, 8, 8, 1)
    path = _graph(tmp_path / "t.onnx", ["N", 8, 8, 1], outputs=("embedding", "logits"))
    np.testing.assert_allclose(_logits(_read(path), pixels), pixels.reshape(4, -1) @ _weights(64), rtol=1e-4)


def test_pixels_that_do_not_lie_in_order_are_read_in_order(tmp_path: Path) -> None:
    pixels = random_pixels(4, 8, 8, 1)
    teacher = _read(_graph(tmp_path / "t.onnx", ["N", 8, 8, 1]))
    mirrored = torch.from_numpy(pixels).flip(2).transpose(1, 2)
    expected = pixels[:, :, ::-1].transpose(0, 2, 1, 3).reshape(4, -1) @ _weights(64)
    np.testing.assert_allclose(teacher.logits(mirrored, 2), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["checkpoint", "graph"])
def test_no_pictures_are_taught_nothing(tmp_path: Path, kind: str) -> None:
    if kind == "checkpoint":
        _checkpoint(tmp_path / "t")
    else:
        _graph(tmp_path / "t", ["N", 8, 8, 1])
    assert _logits(_read(tmp_path / "t"), random_pixels(0, 8, 8, 1)).shape == (0, 2)


def test_a_teachers_name_is_of_what_it_says_and_not_of_where_it_lies(tmp_path: Path) -> None:
    paths = [_graph(tmp_path / name, ["N", 8, 8, 1]) for name in ("a", "b")]
    other = _graph(tmp_path / "c", ["N", 1, 8, 8])
    names = [_read(path).name for path in [*paths, other]]
    assert names[0] == names[1] != names[2]
    _checkpoint(tmp_path / "folder")
    first = _read(tmp_path / "folder").name
    model = random_mixer(toy_config(), seed=1)
    checkpoint.save(checkpoint.Checkpoint(model, toy_spec()), tmp_path / "folder")
    assert _read(tmp_path / "folder").name != first


# --- a bundle ---


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlpMixer, Path]:
    folder = tmp_path_factory.mktemp("bundle")
    model = random_mixer(toy_config(channels=3, image_size=12))
    taught = checkpoint.Checkpoint(model, toy_spec(channels=3, image_size=12))
    return model, publish(TorchNetwork(taught), folder / "bundle", precisions=("fp32",)).graphs["fp32"].path


@pytest.mark.heavy
def test_a_bundles_graph_of_patches_teaches_what_its_network_says(bundle: tuple[MlpMixer, Path]) -> None:
    model, path = bundle
    pixels = random_pixels(5, 12, 12, 3)
    expected = checkpoint.torch_logits(model, pixels)
    np.testing.assert_allclose(_logits(_read(path, 3), pixels), expected, atol=1e-3 * np.ptp(expected))


@pytest.mark.heavy
def test_a_bundle_of_another_size_sees_the_pictures_resized(bundle: tuple[MlpMixer, Path]) -> None:
    model, path = bundle
    plain = np.full((1, 8, 8, 3), 77, dtype=np.uint8)
    expected = checkpoint.torch_logits(model, np.full((1, 12, 12, 3), 77, dtype=np.uint8))
    np.testing.assert_allclose(_logits(_read(path, 3), plain), expected, atol=1e-3)


@pytest.mark.heavy
def test_a_bundle_of_other_classes_or_their_order_is_refused(bundle: tuple[MlpMixer, Path]) -> None:
    with pytest.raises(TrainingError) as caught:
        _read(bundle[1], 3, LABELS[::-1])
    assert str(caught.value) == f"the teacher {bundle[1]} has the classes {LABELS}; expected {LABELS[::-1]}."


def test_a_bundle_whose_spec_is_broken_is_named(tmp_path: Path) -> None:
    graph = onnx.load(_graph(tmp_path / "t.onnx", ["N", 8, 8, 1]))
    helper.set_model_props(graph, {METADATA_KEY: "{}"})
    onnx.save(graph, tmp_path / "t.onnx")
    with pytest.raises(TrainingError, match=r"the teacher .*t.onnx has a spec that cannot be read: [^\n]*$"):
        _read(tmp_path / "t.onnx")


# --- what is no teacher ---


def _error(path: Path, channels: int = 1, labels: tuple[str, ...] = LABELS) -> str:
    with pytest.raises(TrainingError) as caught:
        _read(path, channels, labels)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    expected = f"the teacher {tmp_path / 'no'} does not exist; expected a checkpoint folder or an ONNX file."
    assert _error(tmp_path / "no") == expected


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x0a\x12\x00"], ids=["empty", "garbage", "no-graph"])
def test_a_file_that_is_no_onnx_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.onnx").write_bytes(content)
    assert _error(tmp_path / "t.onnx").startswith(f"the teacher {tmp_path / 't.onnx'} is not a usable ONNX graph: ")


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config.json; expected a checkpoint folder"):
        _read(tmp_path)


def test_a_checkpoint_of_other_classes_or_their_order_is_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path)
    assert _error(tmp_path, labels=LABELS[::-1]).endswith(f" has the classes {LABELS}; expected {LABELS[::-1]}.")


def test_a_checkpoint_of_other_channels_is_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path, channels=3)
    assert _error(tmp_path, channels=1).endswith(" has the channels 3; expected 1.")


def test_a_graph_of_another_number_of_classes_is_refused_at_the_first_pictures(tmp_path: Path) -> None:
    teacher = _read(_graph(tmp_path / "t.onnx", ["N", 8, 8, 1]), labels=("a", "b", "c"))
    with pytest.raises(TrainingError, match=r"gives \(4, 2\) for 4 pictures; expected \(4, 3\)"):
        teacher.logits(torch.from_numpy(random_pixels(4, 8, 8, 1)), 3)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (["N", 8, 8, 3], TensorProto.UINT8),
        (["N", 64], TensorProto.FLOAT),
        (["N", 5, 16], TensorProto.UINT8),
        (["N", 4, 15], TensorProto.UINT8),
        (["N", 8, 8, 1], TensorProto.INT64),
        (["N", 8, 8, 1], TensorProto.DOUBLE),
    ],
    ids=["colour", "flat", "no-square", "no-patch", "int64", "double"],
)
def test_a_graph_that_takes_something_else_is_told_what_was_expected(
    tmp_path: Path, shape: list[int | str], kind: int
) -> None:
    message = _error(_graph(tmp_path / "t.onnx", shape, kind))
    assert f"{shape}; expected uint8 or float pixels of 1 channels, [N, H, W, C] or [N, C, H, W]" in message


def test_a_graph_of_one_size_of_batch_only_is_refused(tmp_path: Path) -> None:
    message = _error(_graph(tmp_path / "t.onnx", [1, 8, 8, 1]))
    assert message.endswith(" takes 1 pictures at a time; expected any number of them.")
