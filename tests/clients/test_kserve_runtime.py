"""A service that starts as the runtime's manifest says answers KServe's clients by the InferenceService's name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.rollout.manifest import kubectl
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import Server, free_port
from tests.clients.conftest import Asked, Judge, encoded
from tests.clients.pictures import EXPECTED, LABELS, PICTURES
from tests.kubernetes.conftest import objects_of

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(kubectl() is None, reason="there is no kubectl here, so that nothing was rendered"),
]

NAME = "shop"  # of the InferenceService; the bundle calls itself "clothes", and its folder is "models"


def variables(bundle: Path, ports: dict[str, int]) -> dict[str, str]:
    """The runtime's environment, with what KServe fills in, and this machine's ports and folder."""
    (runtime,) = objects_of("overlays/kserve")
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    given = {one["name"]: one["value"].replace("{{.Name}}", NAME) for one in container["env"]}
    assert given["MIXER_BUNDLE"] == "/mnt/models"
    assert int(given["MIXER_PORT"]) == container["ports"][0]["containerPort"] == 8080
    return given | {name: str(port) for name, port in ports.items()} | {"MIXER_BUNDLE": str(bundle)}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The service, its bundle where KServe has put it."""
    spec = color_spec(name="clothes", version="1", labels=LABELS)
    bundle = write_bundle(tmp_path_factory.mktemp("mnt") / "models", spec)
    ports = {name: free_port() for name in ("MIXER_PORT", "MIXER_GRPC_PORT", "MIXER_ADMIN_PORT")}
    named = variables(bundle, ports) | {"MIXER_WORKERS": "1", "MIXER_DRAIN_DELAY_S": "0"}
    flags = [f"--{name.removeprefix('MIXER_').lower().replace('_', '-')}={value}" for name, value in named.items()]
    with Server("-m", "cli", "serve", *flags, port=ports["MIXER_PORT"]) as server:
        server.wait_for("ready on http")
        yield Asked(f"127.0.0.1:{server.port}", f"127.0.0.1:{ports['MIXER_GRPC_PORT']}", bundle)


@pytest.fixture
def client(judges: Callable[[str], Judge]) -> Judge:
    return judges("kserve_clients")


def test_the_model_is_ready_by_that_name(runtime: Asked, client: Judge) -> None:
    for protocol in ("v1", "v2"):
        assert client("is_model_ready", base_url=f"http://{runtime.http}", protocol=protocol, model=NAME) is True
    assert client("are_live_and_ready", address=runtime.grpc, model=NAME) == [True, True, True]


def test_version_1_predicts(runtime: Asked, client: Judge) -> None:
    body = {"instances": [{"b64": picture} for picture in encoded(PICTURES)]}
    answer = client("predict", base_url=f"http://{runtime.http}", model=NAME, body=body)
    assert [one["label"] for one in answer["predictions"]] == EXPECTED


def test_version_2_infers_and_answers_with_that_name(runtime: Asked, client: Judge) -> None:
    sent = encoded(PICTURES)
    answer = client("infer", base_url=f"http://{runtime.http}", sent=sent, binary=True, classes=1, model=NAME)
    assert [row[0].split(":", 2)[2] for row in answer["probabilities"]] == EXPECTED
    assert answer["model_name"] == NAME


def test_grpc_infers(runtime: Asked, client: Judge) -> None:
    answer = client("infer_grpc", address=runtime.grpc, sent=encoded(PICTURES), raw=True, model=NAME)
    assert len(answer["probabilities"]) == len(PICTURES)
    assert answer["model_name"] == NAME
