"""What a rendered Deployment says of its pods: command, environment, probes, preStop, how they are replaced.

Knows no cluster and starts nothing.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
_OF_CLIENTS = ROOT / ".venv-clients" / "bin" / "kubectl"


@dataclass(frozen=True)
class Probe:
    """An httpGet of the kubelet."""

    path: str
    port: int
    period_s: float
    timeout_s: float
    failure_threshold: int


@dataclass(frozen=True)
class PodTemplate:
    """A pod with one container that matters. `variables`: its environment, ConfigMaps included."""

    arguments: list[str]
    variables: dict[str, str]
    startup: Probe
    readiness: Probe
    liveness: Probe
    pre_stop_s: float
    grace_s: float
    cpus: int


@dataclass(frozen=True)
class Plan:
    """How a Deployment replaces its pods, and the port of them that its Service leads to."""

    template: PodTemplate
    replicas: int
    max_surge: int
    max_unavailable: int
    port: int


def kubectl() -> Path | None:
    """The program that renders, where there is one: scripts/install-clients brings it."""
    found = shutil.which("kubectl")
    candidates = (_OF_CLIENTS, *(() if found is None else (Path(found),)))
    return next((path for path in candidates if path.exists()), None)


def rendered(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization, as `kubectl apply` would send them. Raises FileNotFoundError without kubectl."""
    program = kubectl()
    if program is None:
        raise FileNotFoundError("There is no kubectl here; expected one on the PATH or from scripts/install-clients.")
    done = subprocess.run([program, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{folder} is not rendered: {done.stderr.strip()}")
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def plan_of(objects: list[dict[str, Any]]) -> Plan:
    """What the only Deployment among the objects says, and the Service `mixer`."""
    deployment = _only(objects, "Deployment", "mixer")
    spec = deployment["spec"]
    container = _container(deployment)
    (port,) = (port for port in _only(objects, "Service", "mixer")["spec"]["ports"] if port["name"] == "http")
    rolling = spec["strategy"]["rollingUpdate"]
    return Plan(
        _template(objects, spec["template"]["spec"], container),
        spec.get("replicas", 1),
        rolling["maxSurge"],
        rolling["maxUnavailable"],
        _port(container, port["targetPort"]),
    )


def _template(objects: list[dict[str, Any]], pod: Mapping[str, Any], container: Mapping[str, Any]) -> PodTemplate:
    return PodTemplate(
        container["args"],
        dict(_variables(objects, container)),
        _probe(container, "startupProbe"),
        _probe(container, "readinessProbe"),
        _probe(container, "livenessProbe"),
        container["lifecycle"]["preStop"]["sleep"]["seconds"],
        pod["terminationGracePeriodSeconds"],
        int(container["resources"]["limits"]["cpu"]),
    )


def _variables(objects: list[dict[str, Any]], container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            yield from _only(objects, "ConfigMap", source["configMapRef"]["name"])["data"].items()
    for variable in container["env"]:
        if "value" in variable:
            yield variable["name"], variable["value"]


def _probe(container: Mapping[str, Any], name: str) -> Probe:
    probe = container[name]
    get = probe["httpGet"]
    return Probe(
        get["path"],
        _port(container, get["port"]),
        probe["periodSeconds"],
        probe["timeoutSeconds"],
        probe["failureThreshold"],
    )


def _port(container: Mapping[str, Any], named: int | str) -> int:
    return next(int(port["containerPort"]) for port in container["ports"] if named in (port["name"], port))


def _container(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _only(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)
    return found
