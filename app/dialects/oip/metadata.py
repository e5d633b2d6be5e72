"""What the Open Inference Protocol tells of the server and its models, over REST and gRPC alike. Knows no transport."""

from typing import Any

from app.dialects.oip.infer import EMBEDDING, INPUT, LOGITS, PROBABILITIES, UNCERTAIN
from app.dialects.oip.tensors import BYTES
from app.serving.registry import Model

SERVER = "mixer-serve"
EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters", "schedule_policy",
    "statistics",
)  # fmt: skip
PLATFORM = "onnxruntime_onnx"


def server(version: str) -> dict[str, Any]:
    """The server, and which extensions of the protocol it has."""
    return {"name": SERVER, "version": version, "extensions": list(EXTENSIONS)}


def model(served: Model) -> dict[str, Any]:
    """A model. Only the output that is there by default is among its outputs: some clients ask for all of them."""
    spec = served.classifier.spec
    has_embedding, has_threshold = served.classifier.engine.embedding_dim is not None, spec.energy_threshold is not None
    more = [LOGITS, *[EMBEDDING] * has_embedding, *[UNCERTAIN] * has_threshold]
    return {
        "name": served.name,
        "versions": [spec.version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": BYTES, "shape": [-1, 1]}],
        "outputs": [{"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, spec.num_classes]}],
        "properties": {"labels": list(spec.labels), "outputs_on_request": more},
    }


def config(served: Model, max_images: int) -> dict[str, Any]:
    """Triton's ModelConfig. `max_images`: the most pictures of a request."""
    classifier = served.classifier
    kind = "KIND_CPU" if classifier.engine.provider == "cpu" else "KIND_GPU"
    return {
        "name": served.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": max_images,
        "input": [{"name": INPUT, "data_type": "TYPE_STRING", "format": "FORMAT_NONE", "dims": [1], "optional": False}],
        "output": [
            {
                "name": PROBABILITIES,
                "data_type": "TYPE_FP32",
                "dims": [classifier.spec.num_classes],
                "label_filename": "",
            }
        ],
        "dynamic_batching": {"preferred_batch_size": [classifier.max_batch_size], "max_queue_delay_microseconds": 0},
        "instance_group": [{"name": served.name, "kind": kind, "count": classifier.engine.instances, "gpus": []}],
        "response_cache": {"enable": False},
        "parameters": {},
    }


def index_entry(served: Model) -> dict[str, str]:
    """A model in the index of the repository."""
    failure = served.failure
    state = {"state": "READY"} if failure is None else {"state": "UNAVAILABLE", "reason": failure.words}
    return {"name": served.name, "version": served.classifier.spec.version, **state}
