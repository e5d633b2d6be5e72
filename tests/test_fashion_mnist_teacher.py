"""The scripts that made Fashion-MNIST's teacher: its last two epochs, on a few pictures, and what comes of them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file

from model.network import checkpoint
from model.training.teacher import teacher_name
from model.training.train import main
from tests.model.toys import write_idx

pytestmark = [pytest.mark.training, pytest.mark.heavy, pytest.mark.timeout(600)]

BUNDLE = Path(__file__).parents[1] / "bundles" / "fashion-mnist"
SCRIPT = BUNDLE / "teacher.py"
EPOCHS, NUM_TRAINED, NUM_PICTURES = 3, 2, 300  # two batches an epoch, the second of them a small one
TINY = (
    *("--image-size", "28", "--channels", "1", "--patch-size", "14", "--hidden-dim", "8", "--num-blocks", "1"),
    *("--tokens-mlp-dim", "4", "--channels-mlp-dim", "8", "--epochs", "1", "--fit", "pad"),
)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fashion_mnist_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script() -> ModuleType:
    return loaded(SCRIPT)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Noise that is the lighter, the higher its class."""
    folder, generator = tmp_path / "data", np.random.default_rng(8)
    folder.mkdir()
    for split, count in (("train", NUM_PICTURES), ("t10k", 10)):
        labels = np.arange(count) % 10
        noise = generator.integers(0, 100, (count, 28, 28))
        write_idx(folder, split, (noise + 15 * labels[:, None, None]).astype(np.uint8), labels)
    return folder


def _save_all_but_the_last_epochs(script: ModuleType, out: Path) -> None:
    """A run as the script saves it, of a network that has learnt nothing yet."""
    model = script.Teacher()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=script.MOMENTUM, nesterov=True)
    done = [{"epoch": epoch + 1, "loss": 2.3, "val_top1": 0.1, "seconds": 1.0} for epoch in range(EPOCHS)]
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": done[:-NUM_TRAINED]}
    out.mkdir()
    torch.save(state, out / "teacher.pt")


@pytest.mark.filterwarnings("ignore")  # of the exporter about itself
def test_the_script_trains_its_last_epochs_and_writes_a_graph_that_teaches(
    script: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, graph = tmp_path / "teacher", tmp_path / "teacher" / "teacher.onnx"
    _save_all_but_the_last_epochs(script, out)
    before = torch.load(out / "teacher.pt", weights_only=True)["model"]["head.weight"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(data), str(out), "--epochs", str(EPOCHS), "--distort", "0.5"])
    script.main()
    rows = [json.loads(line) for line in (out / "teacher.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")] == rows[-2:]
    trained = torch.load(out / "teacher.pt", weights_only=True)["model"]
    assert not torch.equal(trained["head.weight"], before)

    model = script.Teacher()
    model.load_state_dict(trained)
    pixels = np.random.default_rng(9).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    (logits,) = onnxruntime.InferenceSession(str(graph)).run(["logits"], {"pixels": pixels})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model.eval()(torch.from_numpy(pixels)), atol=1e-4)

    onward = [str(SCRIPT), str(data), str(tmp_path / "on"), "--init", str(out), "--epochs", "1", "--learning-rate"]
    monkeypatch.setattr(sys, "argv", [*onward, "1e-9"])
    script.main()
    begun = torch.load(tmp_path / "on" / "teacher.pt", weights_only=True)["model"]
    torch.testing.assert_close(begun["head.weight"], trained["head.weight"])

    main([str(data), "--out", str(tmp_path / "pupil"), *TINY, "--teacher", str(graph)])
    assert checkpoint.load(tmp_path / "pupil").training["teacher"] == teacher_name(graph)


def linear_teacher(seed: int) -> onnx.ModelProto:
    """Logits that are a linear map of the pixels."""
    weights = np.random.default_rng(seed).normal(size=(784, 10)).astype(np.float32) / 784
    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["numbers"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, f"teacher{seed}",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 28, 28, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_several_teachers_are_one_graph_that_gives_the_weighted_mean_of_their_logits() -> None:
    members = [linear_teacher(seed) for seed in range(3)]
    pixels = np.random.default_rng(9).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)

    def logits(model: onnx.ModelProto) -> np.ndarray:
        (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["logits"], {"pixels": pixels})
        return np.asarray(found)

    mean = loaded(BUNDLE / "ensemble.py").ensemble(members, [1, 3, 4])
    first, second, third = map(logits, members)
    np.testing.assert_allclose(logits(mean), (first + 3 * second + 4 * third) / 8, rtol=1e-4, atol=1e-4)


def test_the_mean_of_two_checkpoints_has_the_mean_of_their_weights(data: Path, tmp_path: Path) -> None:
    average = loaded(BUNDLE / "average.py").average
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    main([str(data), "--out", str(first), *TINY])
    main([str(data), "--out", str(second), *TINY, "--init", str(first)])
    main([str(data), "--out", str(other), *TINY, "--hidden-dim", "12"])
    average(first, second, 0.25, tmp_path / "mean")
    weights = [load_file(folder / "model.safetensors") for folder in (first, second, tmp_path / "mean")]
    for name, mean in weights[2].items():
        torch.testing.assert_close(mean, 0.75 * weights[0][name] + 0.25 * weights[1][name])
    assert not torch.equal(weights[0]["head.weight"], weights[1]["head.weight"])
    assert checkpoint.load(tmp_path / "mean").spec == checkpoint.load(second).spec
    with pytest.raises(ValueError, match="expected those of one network"):
        average(first, other, 0.25, tmp_path / "none")
