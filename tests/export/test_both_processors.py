"""An export on a processor without VNNI writes what one with it writes, canaries and metrics included."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from model.spec import METADATA_KEY, ModelSpec
from tests.processors import ROOT, as_avx2_only, needs_qemu

pytestmark = [pytest.mark.process, pytest.mark.heavy]

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from tests.export.toy_checkpoints import clear_images, toy_checkpoint
from export.bundle import ExportData, publish
from export.to_onnx import TorchNetwork
from model.network.checkpoint import torch_logits
from model.data.dataset import ImageSet
checkpoint = toy_checkpoint(num_blocks=1)
images = clear_images(checkpoint.model)
labels = torch_logits(checkpoint.model, images).argmax(axis=1).astype(np.int64)
export_data = ExportData(images, calibration=images, test=("forty, test", ImageSet(images, labels)))
print(*publish(TorchNetwork(checkpoint), Path(sys.argv[1]), export_data, ("fp32", "int8")).graphs)
"""


@needs_qemu
@pytest.mark.timeout(1200)
def test_a_bundle_has_the_same_graphs_canaries_and_metrics(tmp_path: Path):
    folders = here, there = tmp_path / "here", tmp_path / "there"
    said = subprocess.check_output([sys.executable, "-c", SCRIPT, str(here)], cwd=ROOT, text=True)
    assert said == as_avx2_only(SCRIPT, str(there)) == "fp32 int8\n"
    for precision in said.split():
        ours, theirs = (onnx.load(folder / f"{precision}.onnx") for folder in folders)
        assert theirs.graph == ours.graph, precision
        spec, other = (ModelSpec.model_validate_json(metadata(graph)[METADATA_KEY]) for graph in (ours, theirs))
        assert spec.canary is not None
        assert other.canary is not None
        assert other.canary.picture == spec.canary.picture
        assert other.canary.logits == pytest.approx(spec.canary.logits, abs=spec.canary.atol / 1000)
        assert other.metrics is not None
        assert spec.metrics is not None
        assert other.metrics.top1 == spec.metrics.top1
        assert other.metrics.calibration_error == pytest.approx(spec.metrics.calibration_error, abs=1e-6)


def metadata(graph: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in graph.metadata_props}
