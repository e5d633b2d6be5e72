"""From nothing to an answering service: `mixer serve MODEL` against a hub on this machine, with files of true sizes.

    python benchmarks/pulling.py [--mixer .venv/bin/mixer] [--port 18320] [MODEL ...]

For each model: the first start in an empty HOME, the second, and that of the bundle itself as a folder, each until the
first answer; the largest resident memory of the service and of the process that makes the bundle; bytes on the disk.
Then: a start that is killed in the middle of the download, and the next one; two at once. The weights are random, so
that the self-check warns: a cat is none. Needs numpy, safetensors and httpx.
"""

import argparse
import base64
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "examples" / "pants.jpg"
PATCH, TOKENS, CLASSES = 16, 196, 1000
SIZES = {"B": (768, 12), "S": (512, 8)}  # hidden_dim, blocks
CHUNK = 1 << 20
CONFIG = {
    "architecture": "mixer_s16_224",
    "num_classes": CLASSES,
    "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
                       "crop_pct": 0.875, "crop_mode": "center"},
}  # fmt: skip
MODELS = {
    "timm:mixer_b16_224.goog_in21k_ft_in1k": ("B", "/timm/mixer_b16_224.goog_in21k_ft_in1k/resolve/main/"),
    "hf-hub:someone/mixer_s16_224": ("S", "/someone/mixer_s16_224/resolve/main/"),
    "google:imagenet1k/Mixer-B_16": ("B", "/mixer_models/imagenet1k/Mixer-B_16.npz"),
    "google:gsam/Mixer-S_16": ("S", "/mixer_models/gsam/Mixer-S_16.npz"),
}
Tensors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


# --- files of the true names and sizes ---


def tensors(size: str, *, google: bool) -> Tensors:
    hidden, blocks = SIZES[size]
    generator = np.random.default_rng(1)

    def dense(name: str, inputs: int, outputs: int, stem: tuple[int, ...] = ()) -> Tensors:
        kernel = generator.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(math.sqrt(inputs))
        bias = generator.standard_normal(outputs, dtype=np.float32) * np.float32(0.02)
        if google:
            shape = (PATCH, PATCH, 3, outputs) if stem else kernel.shape
            return {f"{name}/kernel": kernel.reshape(shape), f"{name}/bias": bias}
        shape = (outputs, 3, PATCH, PATCH) if stem else (outputs, inputs)
        return {f"{name}.weight": np.ascontiguousarray(kernel.T).reshape(shape), f"{name}.bias": bias}

    def norm(name: str) -> Tensors:
        ones, zeros = np.ones(hidden, np.float32), np.zeros(hidden, np.float32)
        return (
            {f"{name}/scale": ones, f"{name}/bias": zeros}
            if google
            else {f"{name}.weight": ones, f"{name}.bias": zeros}
        )

    made = dense("stem" if google else "stem.proj", PATCH * PATCH * 3, hidden, (PATCH,))
    for index in range(blocks):
        block = f"MixerBlock_{index}/" if google else f"blocks.{index}."
        for number in (0, 1):
            made |= norm(f"{block}LayerNorm_{number}" if google else f"{block}norm{number + 1}")
        for ours, theirs, dim, mlp in (
            ("token_mixing", "mlp_tokens", TOKENS, hidden // 2), ("channel_mixing", "mlp_channels", hidden, hidden * 4),
        ):  # fmt: skip
            for number, shape in ((0, (dim, mlp)), (1, (mlp, dim))):
                made |= dense(f"{block}{ours}/Dense_{number}" if google else f"{block}{theirs}.fc{number + 1}", *shape)
    return made | norm("pre_head_layer_norm" if google else "norm") | dense("head", hidden, CLASSES)


@dataclass(frozen=True)
class File:
    """A file that is served, with its digests."""

    path: Path
    md5: bytes
    sha256: str


def write(model: str, folder: Path) -> dict[str, File]:
    """The files of a model, by the paths that a client asks for."""
    size, address = MODELS[model]
    google = model.startswith("google:")
    path = (
        folder
        / f"{hashlib.md5(model.encode(), usedforsecurity=False).hexdigest()}{'.npz' if google else '.safetensors'}"
    )
    if google:
        np.savez(path, **tensors(size, google=True))
        return {address: served(path)}
    save_file(tensors(size, google=False), path)
    config = path.with_suffix(".json")
    config.write_text(json.dumps(CONFIG))
    return {f"{address}model.safetensors": served(path), f"{address}config.json": served(config)}


def served(path: Path) -> File:
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()
        file.seek(0)
        return File(path, md5, hashlib.file_digest(file, "sha256").hexdigest())


# --- the hub ---


class Hub(ThreadingHTTPServer):
    """Google's storage and the Hugging Face hub. bytes_per_s: how fast a large file leaves; 0: as fast as it can."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, File] = {}
        self.bytes_per_s = 0
        self.sent = 0


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.removeprefix("/cdn")
        file = self.server.files.get(path)
        if file is None:
            self._head(404, {"Content-Length": "0"})
            return
        size = file.path.stat().st_size
        if path.endswith(".safetensors") and path == self.path:
            linked = {
                "X-Linked-Etag": f'"{file.sha256}"',
                "X-Linked-Size": str(size),
                "X-Repo-Commit": "c0ffee" * 6 + "c0de",
            }
            self._head(302, {"Location": f"{self.server.url}/cdn{path}", "Content-Length": "0", **linked})
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        digest = base64.b64encode(file.md5).decode()
        headers = {
            "ETag": f'"{file.md5.hex()}"',
            "x-goog-hash": f"md5={digest}",
            "X-Repo-Commit": "c0ffee" * 6 + "c0de",
        }
        self._head(206 if start else 200, {**headers, "Content-Length": str(size - start)})
        if body:
            self._send(file.path, start)

    def _send(self, path: Path, start: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                try:
                    self.wfile.write(chunk)
                except OSError:
                    self.close_connection = True
                    return
                self.server.sent += len(chunk)
                if self.server.bytes_per_s:
                    time.sleep(len(chunk) / self.server.bytes_per_s)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


# --- what is measured ---


@dataclass
class Memory:
    """The largest resident memory of processes, in bytes: of the first and of all that it has started."""

    service: int = 0
    maker: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    def look(self, first: int) -> None:
        for pid in descendants(first):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            if peak is None:
                continue
            if b"pull" in words:
                self.maker = max(self.maker, int(peak[1]) << 10)
            else:
                self.service = max(self.service, int(peak[1]) << 10)


def descendants(first: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found = [first]
    for pid in found:
        found += parents.get(pid, [])
    return found


def environment(home: Path, server: Hub) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not re.match("HF_|MIXER_|XDG_", name)}
    own = {"HOME": str(home), "HF_ENDPOINT": server.url, "MIXER_GOOGLE_MODELS_URL": f"{server.url}/mixer_models"}
    return {**kept, **own, "NO_PROXY": "127.0.0.1"}


def started(mixer: Path, model: str, port: int, home: Path, server: Hub, log: Path) -> tuple[float, Memory]:
    """Seconds until the first answer of `mixer serve MODEL`, and its memory. It is stopped then."""
    memory, begun = Memory(), time.perf_counter()
    command = [str(mixer), "serve", model, "--port", str(port), "--workers", "1"]
    with log.open("ab") as lines:
        process = subprocess.Popen(command, env=environment(home, server), stderr=lines)
    try:
        while process.poll() is None:
            memory.look(process.pid)
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/classify", content=PICTURE.read_bytes(), timeout=30)
                if answer.status_code == 200:
                    return time.perf_counter() - begun, memory
            except httpx.HTTPError:
                time.sleep(0.05)
        raise SystemExit(f"mixer serve {model} ended with {process.returncode}: {log.read_text()}")
    finally:
        memory.look(process.pid)
        process.terminate()
        process.wait(60)


def disk(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def measure(model: str, mixer: Path, port: int, server: Hub, folder: Path) -> str:
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    log = folder / "log"
    first_s, memory = started(mixer, model, port, home, server, log)
    sent = server.sent
    second_s, second = started(mixer, model, port, home, server, log)
    (bundle,) = {path.parent for path in (home / ".cache" / "mixer-serve" / "models").glob("*/*/fp32.onnx")}
    plain_s, _ = started(mixer, str(bundle), port, home, server, log)
    assert server.sent == sent, "a second start fetches nothing"
    megabytes = (memory.maker, memory.service, second.service, disk(home), disk(bundle))
    return (
        f"| {model} | {first_s:.1f} | {second_s:.1f} | {plain_s:.1f} | "
        + " | ".join(f"{value / 1e6:.0f}" for value in megabytes)
        + " |"
    )


def pulling(mixer: Path, model: str, home: Path, server: Hub) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(mixer), "pull", model], env=environment(home, server), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def killed(mixer: Path, model: str, server: Hub, home: Path) -> str:
    """A pull that is killed at half of its bytes, and the next one."""
    size = max(file.path.stat().st_size for path, file in server.files.items() if MODELS[model][1] in path)
    server.sent, server.bytes_per_s = 0, 40_000_000
    process = pulling(mixer, model, home, server)
    while server.sent < size // 2 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before, server.sent, server.bytes_per_s = server.sent, 0, 0
    again = pulling(mixer, model, home, server)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    return (
        f"killed at {before / 1e6:.0f} of {size / 1e6:.0f} MB, the next one fetched {server.sent / 1e6:.0f} MB; "
        f"its lines:\n{err}{out}"
    )


def two_at_once(mixer: Path, model: str, server: Hub, home: Path) -> str:
    server.sent = 0
    both = [pulling(mixer, model, home, server) for _ in range(2)]
    told = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    lines = "\n".join(err for _, err in told)
    return f"two at once fetched {server.sent / 1e6:.0f} MB and converted {lines.count('converting ')} time; lines:\n{lines}"


def each(models: list[str], run: Callable[[str], str]) -> None:
    print(
        "| model | first start, s | second | its bundle as a folder | maker, MB | service | at the second | HOME | bundle |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for model in models:
        print(run(model), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--mixer", type=Path, default=Path(sys.executable).with_name("mixer"))
    parser.add_argument("--port", type=int, default=18320)
    options = parser.parse_args()
    models = options.models or list(MODELS)
    mixer = options.mixer.absolute()
    with hub() as server, tempfile.TemporaryDirectory(prefix="pulling-") as name:
        folder = Path(name)
        for model in models:
            server.files |= write(model, folder)
        each(models, lambda model: measure(model, mixer, options.port, server, folder))
        print(killed(mixer, models[0], server, folder / "killed"))
        print(two_at_once(mixer, models[-1], server, folder / "two"))


if __name__ == "__main__":
    main()
