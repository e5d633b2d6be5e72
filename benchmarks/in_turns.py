"""wrk on one service after the other, in turns, and how each compares with the first.

Knows nothing of what tells the services apart.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import httpx

_SCRIPT = Path(__file__).with_name("dialect.lua")


def write_plan(folder: Path, pictures: list[bytes]) -> None:
    """What wrk sends: the pictures to /classify, one after the other."""
    files = []
    for index, picture in enumerate(pictures):
        (folder / f"body-{index}").write_bytes(picture)
        files.append(json.dumps(str(folder / f"body-{index}")))
    headers = '["content-type"] = "image/jpeg"'
    plan = f'return {{ path = "/classify", headers = {{ {headers} }}, files = {{ {", ".join(files)} }} }}\n'
    (folder / "plan.lua").write_text(plan, encoding="utf-8")


def measured(port: int, connections: int, seconds: float, folder: Path) -> dict[str, float]:
    """What wrk tells of /classify."""
    report = folder / "report.json"
    subprocess.run(
        ["wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}", "--latency",
         "-s", str(_SCRIPT), f"http://127.0.0.1:{port}"],
        env={**os.environ, "PLAN": str(folder / "plan.lua"), "REPORT": str(report)},
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    told: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))
    if told["failed"]:
        raise SystemExit(f"{told['failed']} of {told['answers']} answers were no 200.")
    return told


def answers(port: int, pictures: list[bytes]) -> list[object]:
    """What a service says of each picture; probabilities to four decimals, as the last depend on the batch."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        bodies = [http.post("/classify", content=picture).raise_for_status().json() for picture in pictures]
    return [[(one["label"], round(one["probability"], 4)) for one in body["predictions"]] for body in bodies]


def compare(
    asked: argparse.Namespace,
    pictures: list[bytes],
    ports: Mapping[str, int],
    folder: Path,
    outcomes: Callable[[int], Mapping[str, int]],
    rest: Callable[[int], None] = lambda port: None,
) -> None:
    """Print a line a round, and the medians of the ratios to the first service, whose answers all have to give.

    ports: of services by name. outcomes: what became of pictures at a port. rest: is called with a port after its turn.
    """
    first = next(iter(ports))
    for port in ports.values():
        measured(port, asked.connections, 2, folder)  # warms up
    expected = answers(ports[first], pictures)
    ratios: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ports}
    print(f"| round | {' | '.join(ports)} |\n|---|{'---|' * len(ports)}")
    for number in range(1, asked.rounds + 1):
        names = list(ports) if number % 2 else list(reversed(ports))  # whoever is first is not always the same
        found = {}
        for name in names:
            found[name] = measured(ports[name], asked.connections, asked.seconds, folder)
            rest(ports[name])
        alone = found[first]
        for name, told in found.items():
            faster = told["answers"] / told["seconds"] / (alone["answers"] / alone["seconds"])
            ratios[name].append((faster, told["p50_ms"] / alone["p50_ms"], told["p99_ms"] / alone["p99_ms"]))
            said = answers(ports[name], pictures)
            assert said == expected, (name, said, expected)
        print(f"| {number} | {' | '.join(_words(found[name]) for name in ports)} |", flush=True)
    print("\n| | images/s | p50 | p99 | lowest and highest p99 | pictures |\n|---|---|---|---|---|---|")
    for name, each in ratios.items():
        rate, p50, p99 = (median(one) for one in zip(*each, strict=True))
        ends = f"{min(one[2] for one in each):.2f} to {max(one[2] for one in each):.2f}"
        print(f"| {name} | {rate:.2f} | {p50:.2f} | {p99:.2f} | {ends} | {outcomes(ports[name]) or '-'} |")


def _words(told: Mapping[str, float]) -> str:
    return f"{told['answers'] / told['seconds']:.0f}, {told['p50_ms']:.1f}, {told['p99_ms']:.1f}"
