"""Objects of KEDA, of the Prometheus operator and of KServe are what their own schemas and classes know."""

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.rollout.manifest import MANIFESTS, kubectl
from tests.app.servers import PATIENCE_S, ROOT
from tests.clients.conftest import MISSING, Judge
from tests.clients.test_typescript import ran
from tests.kubernetes.conftest import objects_of

JUDGE = ROOT / "tests" / "clients" / "judges" / "kubernetes_kinds.mjs"
SERVICES = MANIFESTS / "overlays" / "kserve" / "inferenceservices"
MODULES = {"keda.sh/v1alpha1": "keda", "monitoring.coreos.com/v1": "prometheus-operator"}
STRICT = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution"]

pytestmark = pytest.mark.skipif(kubectl() is None, reason="there is no kubectl here, so that nothing was rendered")


def custom() -> list[dict[str, Any]]:
    """What KEDA and the Prometheus operator get."""
    overlays = [objects_of("overlays/keda"), objects_of("overlays/monitoring")]
    found = [one for objects in overlays for one in objects if one["apiVersion"] in MODULES]
    assert {"ScaledObject", "ServiceMonitor", "PrometheusRule"} <= {one["kind"] for one in found}
    return found


def judged(node: tuple[str, Path], objects: list[dict[str, Any]]) -> list[str]:
    program, packages = node
    if not (packages / "node_modules" / "@kubernetes-models").is_dir():
        pytest.skip(MISSING)
    done = subprocess.run(
        [program, str(JUDGE), str(packages)],
        input=json.dumps(objects), capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_their_schemas_find_every_object_valid(node: tuple[str, Path]) -> None:
    objects = custom()
    assert judged(node, objects) == ["valid"] * len(objects)


def test_their_schemas_find_a_wrong_type(node: tuple[str, Path]) -> None:
    (scaled,) = (copy.deepcopy(one) for one in custom() if one["kind"] == "ScaledObject")
    scaled["spec"]["triggers"][1]["metadata"]["threshold"] = 4
    assert judged(node, [scaled]) == ["data/spec/triggers/1/metadata/threshold must be string"]


@pytest.mark.timeout(240)
def test_no_field_is_one_that_their_types_do_not_have(node: tuple[str, Path], tmp_path: Path) -> None:
    """A schema lets other fields pass; a compiler does not."""
    assert compiled(node, tmp_path, custom()) == ""
    (scaled,) = (copy.deepcopy(one) for one in custom() if one["kind"] == "ScaledObject")
    scaled["spec"]["cooldown"] = 5
    assert "does not exist in type 'IScaledObjectSpec'" in compiled(node, tmp_path, [scaled])


def compiled(node: tuple[str, Path], folder: Path, objects: list[dict[str, Any]]) -> str:
    """What TypeScript says of the objects as literals of their types."""
    lines = []
    for number, one in enumerate(objects):
        source = f"@kubernetes-models/{MODULES[one['apiVersion']]}/{one['apiVersion']}/{one['kind']}"
        lines.append(f'import type {{ I{one["kind"]} as Kind{number} }} from "{source}";')
        lines.append(f"export const object{number}: Kind{number} = {json.dumps(one)};")
    (folder / "objects.ts").write_text("\n".join(lines), encoding="utf-8")
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(node[1] / "node_modules")
    return ran(node, "typescript/bin/tsc", *STRICT, "bundler", str(folder / "objects.ts"), expected=None)


@pytest.fixture
def kinds(judges: Callable[[str], Judge]) -> Judge:
    return judges("kserve_kinds")


def expect_known(kinds: Judge, one: dict[str, Any]) -> None:
    assert kinds("read_back", kind=one["kind"], text=json.dumps(one)) == one


def test_kserve_knows_every_field_of_the_runtime(kinds: Judge) -> None:
    (runtime,) = objects_of("overlays/kserve")
    expect_known(kinds, runtime)
    other = copy.deepcopy(runtime)
    other["spec"]["supportedFormats"] = []
    with pytest.raises(AssertionError):
        expect_known(kinds, other)


@pytest.mark.parametrize("name", sorted(path.name for path in SERVICES.iterdir()))
def test_kserve_knows_every_field_of_an_inference_service(name: str, kinds: Judge) -> None:
    service = yaml.safe_load((SERVICES / name).read_text(encoding="utf-8"))
    expect_known(kinds, service)
    (runtime,) = objects_of("overlays/kserve")
    model = service["spec"]["predictor"]["model"]
    formats = {one["name"] for one in runtime["spec"]["supportedModelFormats"] if one["autoSelect"]}
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
