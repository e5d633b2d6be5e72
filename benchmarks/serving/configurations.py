"""Every server that takes part, each in several configurations. Knows how to start them, not what they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.cells import BODIES, Body

OURS = "this service"
PEERS = ("fastapi", "litserve", "bentoml", "ray", "mosec")


@dataclass(frozen=True)
class Configuration:
    """How to start a server. `command`: a program of its environment, and arguments.

    In them and in the variables, {port}, {port_2}, {port_3} and {folder} (an empty one) are filled in.
    """

    name: str
    peer: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    bodies: tuple[Body, ...] = BODIES


@dataclass(frozen=True)
class Graph:
    """One graph of a bundle, which everyone serves. `batch_size`: the most pictures of a run with batching."""

    bundle: Path
    precision: str
    batch_size: int

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.bundle / f"{self.precision}.onnx"


def configurations(graph: Graph, cpus: int) -> list[Configuration]:
    """This service first, then its peers, each as it is and in what promises most."""
    return [
        *_ours(graph, cpus),
        *_fastapi(graph, cpus),
        *_litserve(graph, cpus),
        *_bentoml(graph, cpus),
        *_ray(graph, cpus),
        *_mosec(graph, cpus),
    ]


def chosen(candidates: Sequence[Configuration], words: Sequence[str]) -> list[Configuration]:
    """Those whose name or peer holds one of the words; all without words. Raises ValueError where a word fits none."""
    for word in words:
        if not any(_fits(candidate, word) for candidate in candidates):
            names = ", ".join(candidate.name for candidate in candidates)
            raise ValueError(f"--only is {word!r}; expected part of one of: {names}.")
    return [one for one in candidates if not words or any(_fits(one, word) for word in words)]


def _fits(candidate: Configuration, word: str) -> bool:
    return word.lower() in candidate.name.lower() or word.lower() == candidate.peer


def _ours(graph: Graph, cpus: int) -> list[Configuration]:
    bundle = {"MIXER_BUNDLE": str(graph.bundle), "MIXER_PRECISION": graph.precision}
    quiet = {**bundle, "MIXER_LOG_LEVEL": "warning"}
    variants = {
        "as it comes": bundle,  # a worker for each CPU
        "no access log": quiet,
        "workers pinned": {**quiet, "MIXER_PIN_WORKERS": "true"},
        "batches of 1": {**quiet, "MIXER_MAX_BATCH_SIZE": "1"},
        "1 worker": {**quiet, "MIXER_WORKERS": "1"},
        "full decoding": {**quiet, "MIXER_REDUCED_SCALE": "false"},  # of large JPEGs
        f"{cpus} decoders each": {**quiet, "MIXER_DECODE_THREADS": str(cpus)},
    }
    command = ("mixer", "serve", "--port", "{port}")
    return [Configuration(f"{OURS}, {name}", OURS, command, variables) for name, variables in variants.items()]


def _fastapi(graph: Graph, cpus: int) -> list[Configuration]:
    def configuration(name: str, workers: int, **options: int) -> Configuration:
        command = (
            "uvicorn", "--factory", "benchmarks.peers.fastapi_service:create_app", "--host", "127.0.0.1",
            "--port", "{port}", "--workers", str(workers), "--loop", "uvloop", "--http", "httptools",
            "--no-access-log", "--log-level", "warning",
        )  # fmt: skip
        return Configuration(f"FastAPI, {name}", "fastapi", command, _variables(graph, **options))

    return [
        configuration("1 worker, 40 threads", 1, pool=40),  # its default
        configuration(f"1 worker, {cpus} threads", 1, pool=cpus),
        configuration(f"{cpus} workers, 1 thread each", cpus, pool=1),
        configuration(f"{cpus} workers, 40 threads each", cpus, pool=40),
    ]


def _litserve(graph: Graph, cpus: int) -> list[Configuration]:
    command = ("python", "-m", "benchmarks.peers.litserve_service")

    def configuration(name: str, **options: int) -> Configuration:
        return Configuration(f"LitServe, {name}", "litserve", command, _variables(graph, **options))

    batching = {"max_batch_size": graph.batch_size, "max_wait_ms": 2}
    return [
        configuration(f"{cpus} workers, no batching", workers=cpus, pool=1),
        configuration(f"{cpus} workers, no batching, {cpus} API servers", workers=cpus, pool=cpus),
        configuration(f"{cpus} workers, batching", workers=cpus, pool=1, **batching),
        configuration(f"1 worker, {cpus} threads a run, batching", workers=1, threads=cpus, pool=1, **batching),
    ]


def _bentoml(graph: Graph, cpus: int) -> list[Configuration]:
    def configuration(name: str, service: str, **options: int) -> Configuration:
        command = (
            "bentoml", "serve", f"benchmarks.peers.bentoml_service:{service}", "--host", "127.0.0.1",
            "--port", "{port}", "--timeout", "120",
        )  # fmt: skip
        return Configuration(f"BentoML, {name}", "bentoml", command, _variables(graph, **options))

    batch = graph.batch_size
    return [
        configuration(f"{cpus} workers, no batching", "Classify", workers=cpus, pool=1),
        configuration(f"1 worker of {cpus} threads, no batching", "Classify", workers=1, pool=cpus),
        configuration(f"{cpus} workers, batching", "ClassifyBatch", workers=cpus, pool=1, max_batch_size=batch),
        configuration(
            f"1 worker, {cpus} threads a run, batching", "ClassifyBatch", workers=1, threads=cpus, max_batch_size=batch
        ),
    ]


def _ray(graph: Graph, cpus: int) -> list[Configuration]:
    command = ("python", "-m", "benchmarks.peers.ray_service")
    tuned = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
    haproxy = {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": "{port_2}",
        "RAY_SERVE_HAPROXY_STATS_PORT": "{port_3}",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": "{folder}/haproxy.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{folder}/haproxy-metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{folder}",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{folder}/haproxy-state",
    }

    def configuration(name: str, tuning: Mapping[str, str], **options: int) -> Configuration:
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
        given = {**quiet, **tuning, **_variables(graph, **options)}
        return Configuration(f"Ray Serve, {name}", "ray", command, given)

    batching = {"max_batch_size": graph.batch_size, "max_wait_ms": 2}
    return [
        configuration(f"{cpus} replicas, no batching", {}, workers=cpus),
        configuration(f"{cpus} replicas, no batching, tuned for throughput", tuned, workers=cpus),
        configuration(f"{cpus} replicas behind HAProxy, no batching", haproxy, workers=cpus),
        configuration(f"{cpus} replicas, batching", {}, workers=cpus, **batching),
        configuration(f"{cpus} replicas, batching, tuned for throughput", tuned, workers=cpus, **batching),
        configuration(f"1 replica, {cpus} threads a run, batching", {}, workers=1, threads=cpus, **batching),
    ]


def _mosec(graph: Graph, cpus: int) -> list[Configuration]:
    command = (
        "python", "-m", "benchmarks.peers.mosec_service", "--address", "127.0.0.1", "--port", "{port}",
        "--log-level", "error", "--timeout", "120000", "--max-request-size", str(20 << 20),
    )  # fmt: skip

    def configuration(name: str, **options: int) -> Configuration:
        return Configuration(f"mosec, {name}", "mosec", command, _variables(graph, **options), bodies=("raw",))

    batching = {"max_batch_size": graph.batch_size, "max_wait_ms": 2}
    return [
        configuration(f"{cpus} workers, no batching", workers=cpus),
        configuration(f"{cpus} workers, batching", workers=cpus, **batching),
        configuration(f"{cpus} decoders and {cpus} runners, batching", workers=cpus, pool=max(2, cpus), **batching),
    ]


def _variables(graph: Graph, **options: int) -> dict[str, str]:
    """What benchmarks/peers/classifier.py reads."""
    return {"PEER_GRAPH": str(graph.path), **{f"PEER_{name.upper()}": str(value) for name, value in options.items()}}
