"""A rolling update as Kubernetes would do it, on this machine and under traffic; ends with 1 where a request failed.

Command, environment, probes, preStop and grace period are those of the rendered manifest. What plays the cluster is
this program: pods are processes with addresses of their own, a node learns late which of them serve.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from benchmarks.rollout.crowd import Crowd, Question
from benchmarks.rollout.endpoints import Endpoints
from benchmarks.rollout.manifest import MANIFESTS, ROOT, Plan, plan_of, rendered
from benchmarks.rollout.pod import PodFailedError
from benchmarks.rollout.update import Deployment


def main() -> int:
    """Play it, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("--overlay", type=Path, default=MANIFESTS / "overlays" / "cpu")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--lag", type=float, default=2.0, help="seconds until a node knows that a pod goes, at most")
    parser.add_argument("--picture", type=Path, default=ROOT / "examples" / "pants.jpg")
    parser.add_argument("--label", default="pants")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="variables beside the manifest's")
    arguments = parser.parse_args()
    suffix = arguments.picture.suffix.removeprefix(".").replace("jpg", "jpeg")
    question = Question(arguments.picture.read_bytes(), f"image/{suffix}", arguments.label)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the pods end with this process
    variables = dict(one.split("=", 1) for one in arguments.set)
    try:
        return asyncio.run(_played(plan_of(rendered(arguments.overlay)), question, variables, arguments))
    except (PodFailedError, FileNotFoundError, ValueError) as error:
        print(f"rollout: {error}", file=sys.stderr)
        return 2


async def _played(plan: Plan, question: Question, variables: dict[str, str], arguments: argparse.Namespace) -> int:
    random = Random(1)
    endpoints = Endpoints(arguments.lag, random)
    network = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
    with tempfile.TemporaryDirectory(prefix="rollout-") as logs:
        deployment = Deployment(plan, network, Path(logs), variables, endpoints.follow)
        crowd = Crowd(endpoints.pick, plan.port, question, arguments.requests, random)
        try:
            await deployment.create()
            await endpoints.expect(plan.replicas)
            began = time.monotonic()
            updates = await _roll_under(deployment, crowd, arguments.clients)
            _report(crowd, deployment, updates, time.monotonic() - began)
        finally:
            await deployment.delete()
    return 1 if crowd.ledger.failures else 0


async def _roll_under(deployment: Deployment, crowd: Crowd, clients: int) -> int:
    """Update after update until the traffic is over; returns how many."""
    traffic, updates = asyncio.create_task(crowd.run(clients)), 0
    while not traffic.done() or not updates:
        await deployment.roll()
        updates += 1
        ledger = crowd.ledger
        print(f"update {updates}: {ledger.sent} requests, {ledger.failures.total()} failed", file=sys.stderr)
    await traffic
    await deployment.ended_pods()
    return updates


def _report(crowd: Crowd, deployment: Deployment, updates: int, seconds: float) -> None:
    ledger = crowd.ledger
    ends = [pod.ended_after_s for pod in deployment.ended]
    report = {
        "sent": ledger.sent,
        "answered": ledger.answered,
        "failures": dict(ledger.failures),
        "updates": updates,
        "replaced": len(ends),
        "connections": ledger.connections,
        "slowest_answer_s": round(ledger.slowest_s, 2),
        "ended_after_s": [round(min(ends), 1), round(max(ends), 1)],
        "seconds": round(seconds),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    sys.exit(main())
