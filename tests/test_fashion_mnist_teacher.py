"""The script that trained Fashion-MNIST's teacher: its last two epochs, on a few pictures, and what comes of them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch

from model.network import checkpoint
from model.training.teacher import teacher_name
from model.training.train import main
from tests.model.toys import write_idx

pytestmark = [pytest.mark.training, pytest.mark.heavy, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).parents[1] / "bundles" / "fashion-mnist" / "teacher.py"
NUM_TRAINED, NUM_PICTURES = 2, 300  # two batches an epoch, the second of them a small one
TINY = (
    *("--image-size", "28", "--channels", "1", "--patch-size", "14", "--hidden-dim", "8", "--num-blocks", "1"),
    *("--tokens-mlp-dim", "4", "--channels-mlp-dim", "8", "--epochs", "1", "--fit", "pad"),
)


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fashion_mnist_teacher", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    done = [{"epoch": epoch + 1, "loss": 2.3, "val_top1": 0.1, "seconds": 1.0} for epoch in range(script.EPOCHS)]
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
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(data), str(out)])
    script.main()
    rows = [json.loads(line) for line in (out / "teacher.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, script.EPOCHS + 1))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")] == rows[-2:]
    trained = torch.load(out / "teacher.pt", weights_only=True)["model"]
    assert not torch.equal(trained["head.weight"], before)

    model = script.Teacher()
    model.load_state_dict(trained)
    pixels = np.random.default_rng(9).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    (logits,) = onnxruntime.InferenceSession(str(graph)).run(["logits"], {"pixels": pixels})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model.eval()(torch.from_numpy(pixels)), atol=1e-4)

    main([str(data), "--out", str(tmp_path / "pupil"), *TINY, "--teacher", str(graph)])
    assert checkpoint.load(tmp_path / "pupil").training["teacher"] == teacher_name(graph)
