"""What each way to ask costs: the same pictures through /classify and through every other protocol, in turns.

    python -m benchmarks.dialects [--bundle BUNDLE] [--rounds N] [--seconds S] [--connections C] [--perf-analyzer FILE]

One service with its defaults; wrk sends the pictures of examples/ over HTTP. With --perf-analyzer, that program asks
over HTTP and over gRPC as well, so that both have the same client. Figures are ratios to /classify of the same round.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]
_SCRIPT = Path(__file__).with_name("dialect.lua")
_THREADS = 2
_OCTETS, _JSON = {"content-type": "image/jpeg"}, {"content-type": "application/json"}


def _as_it_is(picture: bytes) -> bytes:
    return picture


def _in_json(wrap: Callable[[str], object]) -> Callable[[bytes], bytes]:
    return lambda picture: json.dumps(wrap(base64.b64encode(picture).decode())).encode()


def _data_uri(text: str) -> object:
    return {"model": "clothes", "input": f"data:image/jpeg;base64,{text}"}


@dataclass(frozen=True)
class Way:
    """One way to ask: where to, with which headers, and what becomes of a picture."""

    name: str
    path: str
    headers: Mapping[str, str] = field(default_factory=lambda: _OCTETS)
    body: Callable[[bytes], bytes] = _as_it_is


NATIVE = Way("/classify", "/classify")
WAYS = (
    NATIVE,
    Way("Open Inference Protocol, bare picture", "/v2/models/{model}/infer", {"inference-header-content-length": "0"}),
    Way(
        "Open Inference Protocol, JSON", "/v2/models/{model}/infer", _JSON,
        _in_json(lambda text: {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}),
    ),
    Way("Hugging Face, bare picture", "/hf"),
    Way("Hugging Face, JSON", "/hf", _JSON, _in_json(lambda text: {"inputs": text})),
    Way("TorchServe", "/predictions/{model}"),
    Way("KServe v1", "/v1/models/{model}:predict", _JSON, _in_json(lambda text: {"instances": [{"b64": text}]})),
    Way("SageMaker", "/invocations"),
    Way("OpenAI's embeddings", "/v1/embeddings", _JSON, _in_json(_data_uri)),
)  # fmt: skip


def main() -> int:
    """Measure in turns, and print a table."""
    arguments = _parsed(sys.argv[1:])
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    pictures = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jpg"))]
    configuration = Configuration(
        "this service", "this service", ("mixer", "serve"),
        {
            "MIXER_BUNDLE": str(arguments.bundle), "MIXER_PORT": "{port}", "MIXER_LOG_LEVEL": "warning",
            "MIXER_GRPC_PORT": "{port_2}" if arguments.perf_analyzer else "0",
        },
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bench-dialects-") as folder:
        log, probe = Path(folder) / "log", Probe(NATIVE.path, "image/jpeg", pictures[0])
        with serving(configuration, ROOT / ".venv" / "bin", probe, log) as server:
            rates = _in_turns(arguments, pictures, server.port, Path(folder))
            _print(rates, NATIVE.name)
            if arguments.perf_analyzer:
                _print(_by_perf_analyzer(arguments, pictures, server.port, Path(folder)), "HTTP")
    return 0


def _parsed(flags: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--perf-analyzer", type=Path, help="Triton's load tool")
    parser.add_argument("--only", default="", help="part of the names of the ways to measure, beside /classify")
    return parser.parse_args(flags)


def _in_turns(
    arguments: argparse.Namespace, pictures: list[bytes], port: int, folder: Path
) -> dict[str, list[tuple[float, float]]]:
    """Answers a second and median milliseconds, by way and round."""
    chosen = [way for way in WAYS if way is NATIVE or arguments.only.lower() in way.name.lower()]
    rates: dict[str, list[tuple[float, float]]] = {way.name: [] for way in chosen}
    for round_number in range(arguments.rounds + 1):
        for way in chosen:
            seconds = arguments.seconds if round_number else 1.0  # the first warms up
            found = _ask(way, arguments, pictures, port, folder, seconds)
            if round_number:
                rates[way.name].append(found)
    return rates


def _ask(
    way: Way, arguments: argparse.Namespace, pictures: list[bytes], port: int, folder: Path, seconds: float
) -> tuple[float, float]:
    files = []
    for index, picture in enumerate(pictures):
        file = folder / f"body-{index}"
        file.write_bytes(way.body(picture))
        files.append(str(file))
    headers = "".join(f"[{json.dumps(name)}] = {json.dumps(value)}, " for name, value in way.headers.items())
    path = way.path.format(model=arguments.bundle.name)
    plan, report = folder / "plan.lua", folder / "report.json"
    listed = ", ".join(map(json.dumps, files))
    plan.write_text(
        f"return {{ path = {json.dumps(path)}, headers = {{ {headers}}}, files = {{ {listed} }} }}\n", encoding="utf-8"
    )
    subprocess.run(
        ["wrk", "-t", str(_THREADS), "-c", str(arguments.connections), "-d", f"{max(1, round(seconds))}", "--latency",
         "-s", str(_SCRIPT), f"http://127.0.0.1:{port}"],
        env={**os.environ, "PLAN": str(plan), "REPORT": str(report)}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    told = json.loads(report.read_text(encoding="utf-8"))
    if told["failed"] or not told["answers"]:
        raise SystemExit(f"{way.name}: {told['failed']} of {told['answers']} answers were no 200.")
    return told["answers"] / told["seconds"], told["p50_ms"]


def _by_perf_analyzer(
    arguments: argparse.Namespace, pictures: list[bytes], port: int, folder: Path
) -> dict[str, list[tuple[float, float]]]:
    """The same by Triton's own load tool, over HTTP and gRPC in turns."""
    data = folder / "pictures.json"
    with_length = (len(one).to_bytes(4, "little") + one for one in pictures)
    content = [{"image": {"b64": base64.b64encode(one).decode()}} for one in with_length]
    data.write_text(json.dumps({"data": content}), encoding="utf-8")
    rates: dict[str, list[tuple[float, float]]] = {"HTTP": [], "gRPC": []}
    addresses = {"HTTP": ("http", port), "gRPC": ("grpc", _listening_beside(port))}
    for _ in range(arguments.rounds):
        for name, (protocol, at) in addresses.items():
            said = subprocess.run(
                [str(arguments.perf_analyzer), "-m", arguments.bundle.name, "-i", protocol, "-u", f"127.0.0.1:{at}",
                 "--input-data", str(data), "--concurrency-range", str(arguments.connections),
                 "--measurement-interval", str(int(arguments.seconds * 1000)), "--max-trials", "6",
                 "--stability-percentage", "50",
                 "--percentile", "50"],
                capture_output=True, text=True, check=False,
                # A connection for each client, as over HTTP: several share one otherwise, and one worker has them all.
                env={**os.environ, "TRITON_CLIENT_GRPC_CHANNEL_MAX_SHARE_COUNT": "1"},
            ).stdout  # fmt: skip
            rate, p50 = re.search(r"Throughput: ([0-9.]+)", said), re.search(r"p50 latency: ([0-9]+)", said)
            if rate is None or p50 is None:
                raise SystemExit(f"perf_analyzer said no rate over {name}: {said[-500:]}")
            rates[name].append((float(rate[1]), float(p50[1]) / 1000))
    return rates


def _listening_beside(port: int) -> int:
    """The other port on which the service that has this one listens."""
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listening.splitlines()]
    owners = {pid for line in lines if line[3].endswith(f":{port}") for pid in re.findall(r"pid=(\d+)", line[-1])}
    others = {
        int(line[3].rpartition(":")[2])
        for line in lines
        if owners.intersection(re.findall(r"pid=(\d+)", line[-1])) and not line[3].endswith(f":{port}")
    }
    if len(others) != 1:
        raise SystemExit(f"the service listens on {sorted(others)} beside {port}; expected one port, for gRPC.")
    return others.pop()


def _print(rates: Mapping[str, list[tuple[float, float]]], native: str) -> None:
    print(f"| way | answers/s | of {native}'s | p50 |\n|---|---|---|---|")
    for name, rounds in rates.items():
        ratios = [one[0] / other[0] for one, other in zip(rounds, rates[native], strict=True)]
        print(
            f"| {name} | {median(rate for rate, _ in rounds):.0f} | {median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) | {median(p50 for _, p50 in rounds):.1f} ms |"
        )


if __name__ == "__main__":
    sys.exit(main())
