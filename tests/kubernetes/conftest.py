"""Every overlay as kubectl renders it, and every component over the base."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rollout.manifest import MANIFESTS, kubectl, rendered
from tests.app.color_bundle import color_spec, write_bundle

OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir())
NAMES = [f"overlays/{name}" for name in OVERLAYS] + [f"components/{name}" for name in COMPONENTS]
SERVING = [name for name in NAMES if name != "overlays/kserve"]

Objects = list[dict[str, Any]]


@cache
def objects_of(name: str) -> Objects:
    """What `kubectl apply --kustomize` would send; of a component, what it makes of the base."""
    if name.startswith("overlays/"):
        return rendered(MANIFESTS / name)
    with tempfile.TemporaryDirectory(prefix=".rendered-", dir=MANIFESTS) as folder:
        text = f"resources: [../base]\ncomponents: [../{name}]\n"
        (Path(folder) / "kustomization.yaml").write_text(text, encoding="utf-8")
        return rendered(Path(folder))


@pytest.fixture(scope="session", autouse=True)
def needs_kubectl() -> None:
    """All of these tests look at what it renders."""
    if kubectl() is None:
        pytest.skip("there is no kubectl here (scripts/install-clients brings it): no manifest was rendered")


@pytest.fixture(params=NAMES)
def objects(request: pytest.FixtureRequest) -> Objects:
    """The objects of each."""
    return objects_of(request.param)


@pytest.fixture(params=SERVING)
def service(request: pytest.FixtureRequest) -> Objects:
    """The objects of each that has the Deployment."""
    return objects_of(request.param)


def only(objects: Objects, kind: str, name: str = "mixer") -> dict[str, Any]:
    """The one object of that kind and name."""
    (found,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pod_of(objects: Objects) -> dict[str, Any]:
    """The pod's specification."""
    pod: dict[str, Any] = only(objects, "Deployment")["spec"]["template"]["spec"]
    return pod


def container_of(objects: Objects) -> dict[str, Any]:
    """The service's container."""
    (container,) = pod_of(objects)["containers"]
    return dict(container)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: red, green and blue pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours", color_spec())
