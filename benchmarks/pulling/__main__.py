"""From nothing to an answering service: `mixer serve MODEL` against a hub on this machine, with files of true sizes.

    python -m benchmarks.pulling [--mixer .venv/bin/mixer] [--port 18320] [MODEL ...]

For each model: the first start in an empty HOME, the second, and that of the bundle itself as a folder, each until the
first answer; the largest resident memory of the process that makes the bundle and of the service; bytes on the disk.
Then: a pull that is killed in the middle of the download, and the next one; two at once; one without network. The
weights are random, so that the self-check warns: a cat is none.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.pulling.files import MODELS, write
from benchmarks.pulling.hub import Hub, answering
from benchmarks.pulling.usage import Usage

PICTURE = Path(__file__).parents[2] / "examples" / "pants.jpg"
COLUMNS = (
    "model", "first start, s", "second, s", "its folder, s", "processor: first, s", "second, s", "its folder, s",
    "maker, MB", "service, MB", "second, MB", "HOME, MB", "bundle, MB",
)  # fmt: skip
SLOW = 40_000_000  # bytes a second, so that a kill finds the middle of a download


class Bench:
    """One `mixer`, one hub, and a folder for everything that is written."""

    def __init__(self, mixer: Path, port: int, server: Hub, folder: Path) -> None:
        self.mixer, self.port, self.server, self.folder = mixer, port, server, folder
        self.log = folder / "log"

    def row(self, model: str) -> str:
        home = self.new_home()
        first_s, first = self.started(model, home)
        sent = self.server.sent
        second_s, second = self.started(model, home)
        assert self.server.sent == sent, "a second start fetches nothing"
        (graph,) = (home / ".cache" / "mixer-serve" / "models").glob("*/*/fp32.onnx")
        plain_s, plain = self.started(str(graph.parent), home)
        seconds = (first_s, second_s, plain_s, first.processor_s, second.processor_s, plain.processor_s)
        sizes = (first.maker, first.service, second.service, disk(home), disk(graph.parent))
        return line(model, *(f"{value:.1f}" for value in seconds), *(f"{size / 1e6:.0f}" for size in sizes))

    def started(self, model: str, home: Path) -> tuple[float, Usage]:
        """Seconds until the first answer of `mixer serve MODEL`, and what it took. It is stopped then."""
        usage, begun = Usage(), time.perf_counter()
        command = [str(self.mixer), "serve", model, "--port", str(self.port), "--workers", "1"]
        with self.log.open("ab") as lines:
            process = subprocess.Popen(command, env=self.environment(home), stderr=lines)
        try:
            while process.poll() is None:
                usage.look(process.pid)
                if self.answers():
                    usage.look(process.pid)
                    return time.perf_counter() - begun, usage
                time.sleep(0.05)
            raise SystemExit(f"mixer serve {model} ended with {process.returncode}: {self.log.read_text()}")
        finally:
            usage.look(process.pid)
            process.terminate()
            process.wait(60)

    def answers(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/classify"
        try:
            return httpx.post(url, content=PICTURE.read_bytes(), timeout=30).status_code == 200
        except httpx.HTTPError:
            return False

    def killed(self, model: str) -> str:
        """A pull that is killed at half of its bytes, and the next one."""
        home, size = self.new_home(), self.size(model)
        self.server.sent, self.server.bytes_per_s = 0, SLOW
        process = self.pull(model, home)
        while self.server.sent < size // 2 and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before, self.server.sent, self.server.bytes_per_s = self.server.sent, 0, 0
        told = self.finished(self.pull(model, home))
        after = self.server.sent
        return (
            f"killed at {before / 1e6:.0f} of {size / 1e6:.0f} MB; the next one fetched {after / 1e6:.0f} MB:\n{told}"
        )

    def two_at_once(self, model: str) -> str:
        home, self.server.sent = self.new_home(), 0
        told = "\n".join(self.finished(process) for process in [self.pull(model, home) for _ in range(2)])
        return f"two at once fetched {self.server.sent / 1e6:.0f} MB:\n{told}"

    def offline(self, model: str) -> str:
        """Without anything in the cache, nor a way to it."""
        process = self.pull(model, self.new_home(), HF_HUB_OFFLINE="1", MIXER_GOOGLE_MODELS_URL="http://127.0.0.1:9")
        _, told = process.communicate(timeout=600)
        return f"offline, exit code {process.returncode}: {told}"

    def pull(self, model: str, home: Path, **changes: str) -> "subprocess.Popen[str]":
        command = [str(self.mixer), "pull", model]
        environment = {**self.environment(home), **changes}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)

    def finished(self, process: "subprocess.Popen[str]") -> str:
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
        return f"{err}{out}"

    def size(self, model: str) -> int:
        return max(
            file.path.stat().st_size for path, file in self.server.files.items() if path.startswith(MODELS[model][1])
        )

    def new_home(self) -> Path:
        home = self.folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        return home

    def environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not re.match("HF_|MIXER_|XDG_", name)}
        hosts = {"HF_ENDPOINT": self.server.url, "MIXER_GOOGLE_MODELS_URL": f"{self.server.url}/mixer_models"}
        return {**kept, **hosts, "HOME": str(home), "NO_PROXY": "127.0.0.1,localhost"}


def line(*cells: str) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="Default: all four.")
    parser.add_argument("--mixer", type=Path, default=Path(sys.executable).with_name("mixer"))
    parser.add_argument("--port", type=int, default=18320)
    options = parser.parse_args()
    models = options.models or list(MODELS)
    with answering() as server, tempfile.TemporaryDirectory(prefix="pulling-") as name:
        bench = Bench(options.mixer.absolute(), options.port, server, Path(name))
        for model in models:
            server.files |= write(model, bench.folder)
        print(line(*COLUMNS), line(*["---"] * len(COLUMNS)), sep="\n")
        for model in models:
            print(bench.row(model), flush=True)
        print(*re.findall(r"^(?!\d{4}-).+$", bench.log.read_text(), re.MULTILINE), sep="\n")
        for told in (bench.killed(models[0]), bench.two_at_once(models[-1]), *map(bench.offline, models)):
            print(told, flush=True)


if __name__ == "__main__":
    main()
