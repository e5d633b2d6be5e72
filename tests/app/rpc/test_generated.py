"""The generated modules are those of the .proto beside them."""

from pathlib import Path

import pytest

from app.rpc.open_inference_pb2 import DESCRIPTOR
from tests.app.servers import ROOT

protoc = pytest.importorskip("grpc_tools.protoc")
FOLDER = ROOT / "app" / "rpc"


def test_generating_them_again_gives_the_same(tmp_path: Path) -> None:
    """With `--python_out=. --pyi_out=.`, from the repository's root."""
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi")]
    assert protoc.main(["protoc", f"-I{ROOT}", *outputs, "app/rpc/open_inference.proto"]) == 0
    made = {path.name: path.read_text() for path in (tmp_path / "app" / "rpc").iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.glob("open_inference_pb2*.py*")}


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("ModelInferRequest", "model_name 1 model_version 2 id 3 parameters 4 inputs 5 outputs 6 raw_input_contents 7"),
        ("ModelInferResponse", "model_name 1 model_version 2 id 3 parameters 4 outputs 5 raw_output_contents 6"),
        ("ModelMetadataResponse", "name 1 versions 2 platform 3 inputs 4 outputs 5"),
        ("InferParameter", "bool_param 1 int64_param 2 string_param 3 double_param 4 uint64_param 5"),
        ("ModelStreamInferResponse", "error_message 1 infer_response 2"),
        (
            "InferStatistics",
            "success 1 fail 2 queue 3 compute_input 4 compute_infer 5 compute_output 6 cache_hit 7 cache_miss 8",
        ),
        (
            "ModelStatistics",
            "name 1 version 2 last_inference 3 inference_count 4 execution_count 5 inference_stats 6 batch_stats 7 "
            "memory_usage 8",
        ),
    ],
)
def test_fields_have_the_numbers_that_clients_were_built_with(message: str, fields: str) -> None:
    found = DESCRIPTOR.message_types_by_name[message].fields
    assert " ".join(f"{field.name} {field.number}" for field in found) == fields
