"""The Deployment and what stands around it agree with each other, with the service's settings, and with its image."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.server.uvicorn_server import GRACE_S
from app.settings import ENV_PREFIX, Settings
from benchmarks.rollout.manifest import ROOT, plan_of
from tests.kubernetes.conftest import SERVING, Objects, container_of, objects_of, only, pod_of

LABELS = {"app.kubernetes.io/name": "mixer-serve"}


def variables_of(objects: Objects) -> dict[str, str]:
    return plan_of(objects).template.variables


def test_every_variable_is_an_option(service: Objects) -> None:
    options = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in variables_of(service) if name.startswith(ENV_PREFIX)} <= options


def test_its_values_are_what_the_options_take(service: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = variables_of(service)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    ports = {port["name"]: port["containerPort"] for port in container_of(service)["ports"]}
    assert (settings.port, settings.admin_port, settings.admin_host) == (ports["http"], ports["admin"], "0.0.0.0")
    assert settings.grpc_port == ports.get("grpc", 0)
    assert settings.log_format == "json"


def test_the_grace_period_holds_all_that_an_end_takes(service: Objects) -> None:
    template = plan_of(service).template
    delay_s = float(template.variables["MIXER_DRAIN_DELAY_S"])
    drain_s = float(template.variables["MIXER_DRAIN_TIMEOUT_S"])
    assert template.pre_stop_s >= 5  # what nodes may need to learn that a pod goes
    assert delay_s >= 5
    assert template.grace_s > template.pre_stop_s + delay_s + drain_s + 2 * GRACE_S + 5


@pytest.mark.parametrize("name", SERVING)
def test_no_pod_goes_before_another_is_ready_unless_that_one_would_wait_for_a_gpu(name: str) -> None:
    plan = plan_of(objects_of(name))
    assert (plan.max_surge, plan.max_unavailable) == ((0, 1) if name == "overlays/gpu" else (1, 0))
    assert only(objects_of(name), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_cpu_limit_is_whole_and_guaranteed(service: Objects) -> None:
    resources = container_of(service)["resources"]
    assert resources["limits"]["cpu"].isdigit()  # half a CPU more would be a worker more, with half a CPU
    for name in ("cpu", "memory"):
        assert resources["requests"][name] == resources["limits"][name]


def test_probes_ask_the_port_for_operators_which_clients_cannot_fill(service: Objects) -> None:
    container = container_of(service)
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/health/live", "readiness": "/health/ready", "liveness": "/health/live"}
    assert {container[f"{name}Probe"]["httpGet"]["port"] for name in paths} == {"admin"}


def test_every_port_that_is_named_is_one_of_the_containers(service: Objects) -> None:
    names = {port["name"] for port in container_of(service)["ports"]}
    targets = {port["targetPort"] for one in service if one["kind"] == "Service" for port in one["spec"]["ports"]}
    let_in = {port["port"] for rule in only(service, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]}
    assert targets == let_in == names


def test_everything_selects_the_pods_of_the_deployment(service: Objects) -> None:
    deployment = only(service, "Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"] == LABELS
    selectors = [deployment["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"] for one in service if one["kind"] == "Service"]
    selectors.append(only(service, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    selectors.append(only(service, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    selectors += [one["labelSelector"]["matchLabels"] for one in pod_of(service)["topologySpreadConstraints"]]
    assert all(selector == LABELS for selector in selectors)


def test_pods_are_spread_over_zones_and_hosts(service: Objects) -> None:
    keys = [one["topologyKey"] for one in pod_of(service)["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]


def test_a_pod_may_as_little_as_the_restricted_standard_lets_it(service: Objects) -> None:
    pod = pod_of(service)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert "runAsUser" not in str(pod)  # a platform may give each namespace users and groups of its own
    assert "fsGroup" not in str(pod)
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        context: dict[str, Any] = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_what_the_image_writes_to_is_mounted(service: Objects) -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (cache,) = re.findall(r"MIXER_CACHE=(\S+)", image)
    writable = {mount["mountPath"] for mount in container_of(service)["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", cache}  # noqa: S108 -- that of the container
    volumes = {volume["name"]: volume for volume in pod_of(service)["volumes"]}
    assert all(mount["name"] in volumes for mount in container_of(service)["volumeMounts"])


@pytest.mark.parametrize("name", SERVING)
def test_only_what_fetches_a_model_or_sends_spans_may_reach_out(name: str) -> None:
    policy = only(objects_of(name), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"][-1]["port"] for rule in policy["egress"]] == {
        "components/bundle-hub": [53, 443],
        "components/bundle-storage": [53, 443],
        "components/traces": [53, 4318],
    }.get(name, [])


def test_spans_go_to_the_port_that_is_let_out() -> None:
    objects = objects_of("components/traces")
    endpoint = urlsplit(variables_of(objects)["OTEL_EXPORTER_OTLP_ENDPOINT"])
    (collector,) = only(objects, "NetworkPolicy")["spec"]["egress"][1]["to"]
    assert endpoint.port == only(objects, "NetworkPolicy")["spec"]["egress"][1]["ports"][0]["port"]
    assert (endpoint.hostname or "").split(".")[1:] == list(collector["namespaceSelector"]["matchLabels"].values())


def test_clients_come_from_anywhere_and_operators_from_monitoring(service: Objects) -> None:
    clients, operators = only(service, "NetworkPolicy")["spec"]["ingress"]
    assert "from" not in clients
    assert operators["ports"] == [{"port": "admin"}]
    assert operators["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.parametrize("name", ["overlays/hpa", "overlays/keda"])
def test_an_autoscaler_alone_says_how_many_pods_there_are(name: str) -> None:
    objects = objects_of(name)
    assert "replicas" not in only(objects, "Deployment")["spec"]
    scaler = next(one for one in objects if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"))
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mixer"}


def test_a_gpu_is_a_limit_and_no_pod_answers_without_it() -> None:
    objects = objects_of("overlays/gpu")
    assert container_of(objects)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert variables_of(objects)["MIXER_PROVIDER"] == "cuda"
    assert container_of(objects)["image"].endswith(":gpu")


def test_a_bundle_as_a_volume_is_what_is_served() -> None:
    for name in ("bundle-image", "bundle-claim", "bundle-storage"):
        objects = objects_of(f"components/{name}")
        bundle = Path(variables_of(objects)["MIXER_BUNDLE"])
        mounts = [Path(mount["mountPath"]) for mount in container_of(objects)["volumeMounts"] if mount.get("readOnly")]
        assert len(mounts) == 1
        assert mounts[0] in (bundle, *bundle.parents)
