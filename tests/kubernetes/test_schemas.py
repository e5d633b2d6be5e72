"""Every object is what Kubernetes takes: in each version that is judged, field by field, unknown ones refused."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from benchmarks.rollout.manifest import MANIFESTS
from tests.kubernetes.conftest import NAMES, Objects, objects_of

# Their own schemas are asked in tests/clients/test_kubernetes_kinds.py.
OF_OTHERS = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "ClusterServingRuntime"}
VERSIONS = ("1.30", "1.33", "1.37")  # the least, and those that docs/kubernetes.md names
YOUNGER = {"components/bundle-image": "1.33"}  # than the least


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_object_is_valid_in_its_strict_schema(name: str, version: str) -> None:
    if version < YOUNGER.get(name, version):
        pytest.skip(f"{name} needs Kubernetes {YOUNGER[name]}")
    judged = [one for one in objects_of(name) if one["kind"] not in OF_OTHERS]
    for one in judged:
        kubernetes_validate.validate(one, version, strict=True)
    assert judged or name == "overlays/kserve"


def test_a_field_that_is_none_is_refused() -> None:
    service = next(one for one in objects_of("overlays/cpu") if one["kind"] == "Service")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service | {"spec": service["spec"] | {"ports_": []}}, VERSIONS[0], strict=True)


def test_no_object_stands_twice(objects: Objects) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))


def test_every_file_is_yaml_that_some_kustomization_uses() -> None:
    used: set[Path] = set()
    for file in MANIFESTS.rglob("kustomization.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        listed = (
            [*content.get("resources", []), *(patch["path"] for patch in content["patches"] if "path" in patch)]
            if ("patches" in content)
            else content.get("resources", [])
        )
        used |= {(file.parent / path).resolve() for path in listed}
    others = {"kustomization.yaml", "adapter-rules.yaml"}
    for file in MANIFESTS.rglob("*.yaml"):
        assert list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        if file.name not in others and file.parent.name != "inferenceservices":
            assert file in used, f"{file} is in no kustomization; expected every manifest to be applied by one"
