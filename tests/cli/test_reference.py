"""`mixer reference`: a bundle of before gets what its drift is told by, and nothing else of it changes."""

import shutil
from pathlib import Path

import onnx
import pytest

from export.bundle import publish
from export.target import PRECISIONS
from export.to_onnx import TorchNetwork
from model.data.dataset import ImageSet
from model.errors import ExportError
from model.network.checkpoint import Checkpoint
from model.spec import METADATA_KEY, ModelSpec
from tests.app.servers import ROOT
from tests.cli.test_calibration import run, write_split
from tests.model.toys import random_mixer, toy_config, toy_images, toy_spec

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    checkpoint = Checkpoint(random_mixer(toy_config()), toy_spec(), {}, toy_images(40, 7).pixels)
    publish(TorchNetwork(checkpoint), tmp_path / "bundle")
    return tmp_path / "bundle"


def data_of(folder: Path, images: ImageSet) -> Path:
    write_split(folder / "val", images)
    write_split(folder / "test", toy_images(20, 6))
    return folder


def graphs(bundle: Path) -> dict[str, tuple[ModelSpec, onnx.GraphProto]]:
    read = {path.name: onnx.load(path) for path in bundle.glob("*.onnx") if path.stem in PRECISIONS}
    metadata = {name: {entry.key: entry.value for entry in graph.metadata_props} for name, graph in read.items()}
    return {name: (ModelSpec.model_validate_json(metadata[name][METADATA_KEY]), read[name].graph) for name in read}


def test_every_graph_gets_its_own_and_stays_as_it_is(bundle: Path, tmp_path: Path) -> None:
    before = graphs(bundle)
    printed = run("reference", bundle, data_of(tmp_path / "data", toy_images(120, 5))).splitlines()
    assert [line.split(":")[0] for line in printed] == [f"{bundle}/{name}.onnx" for name in ("fp32", "fp16", "int8")]
    for name, (spec, graph) in graphs(bundle).items():
        assert spec.reference is not None
        assert (spec.reference.num_pictures, spec.reference.data_set) == (120, "data, validation")
        assert spec.model_copy(update={"reference": None}) == before[name][0]
        assert graph == before[name][1]


def test_too_few_pictures_and_no_bundle_are_refused(bundle: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", toy_images(99, 5))
    with pytest.raises(ExportError, match="99 validation pictures; expected 100 or more"):
        run("reference", bundle, data)
    shutil.rmtree(bundle)
    bundle.mkdir()
    with pytest.raises(ExportError, match="has no graph"):
        run("reference", bundle, data)


@pytest.mark.parametrize(("name", "pictures"), [("clothes", 341), ("fashion-mnist", 3000)])
def test_the_bundles_that_ship_have_one(name: str, pictures: int) -> None:
    for path, (spec, _) in graphs(ROOT / "bundles" / name).items():
        assert spec.reference is not None, path
        assert spec.reference.num_pictures == pictures
