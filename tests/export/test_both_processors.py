"""An export on a processor without VNNI writes what one with it writes, canaries and metrics included."""

from pathlib import Path

import pytest
from processors import as_avx2_only, needs_qemu

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = ["tests/export"]
import numpy as np
from toy_checkpoints import clear_pictures, toy_checkpoint
from export.bundle import Evidence, publish
from model.checkpoint import torch_logits
from model.data import PictureSet
checkpoint = toy_checkpoint()
pictures = clear_pictures(checkpoint.model)
labels = torch_logits(checkpoint.model, pictures).argmax(axis=1).astype(np.int64)
evidence = Evidence(pictures, calibration=pictures, test=("forty, test", PictureSet(pictures, labels)))
print(*publish(checkpoint, Path(sys.argv[1]), evidence).graphs)
"""


@needs_qemu
@pytest.mark.timeout(900)
def test_a_bundle_is_the_same_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setattr("sys.argv", ["export", str(here)])
    exec(SCRIPT, {})  # noqa: S102 -- the same lines as on the other processor
    assert capsys.readouterr().out == as_avx2_only(SCRIPT, str(there)) == "fp32 fp16 int8\n"
    for graph in sorted(here.iterdir()):
        assert (there / graph.name).read_bytes() == graph.read_bytes(), graph.name
