"""New bundles over real sockets, in two processes and under load: nobody is refused, and every answer is right."""

import http.client
import json
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.reload import ReloadFailed, _ask
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle
from tests.app.servers import PATIENCE_S, Server, free_port, until

pytestmark = pytest.mark.process

KEY = "an-operators-key-of-length"
IMAGES = {"red": image(RED), "green": image(GREEN), "blue": image(BLUE)}
SWAPS, CLIENTS = 20, 8


def put(folder: Path, name: str, version: str) -> Path:
    """Write a bundle beside its place, and put it there in one step."""
    beside = folder / f".{name}.new"
    write_bundle(beside, color_spec(version=version))
    graph = folder / name / "fp32.onnx"
    graph.parent.mkdir(exist_ok=True)
    (beside / "fp32.onnx").replace(graph)
    beside.rmdir()
    return folder / name


def served(bundle: Path, *flags: str) -> Server:
    port = free_port()
    options = (
        "--port",
        str(port),
        "--bundle",
        str(bundle),
        "--provider",
        "cpu",
        "--instances",
        "1",
        "--admin-keys",
        KEY,
    )
    return Server("-m", "cli", "serve", *options, *flags, port=port)


def reload(running: Server) -> dict[str, str]:
    followed = _ask(f"http://127.0.0.1:{running.port}", KEY)
    return {model["name"]: model["outcome"] for model in followed["models"]}


def wait_for_both(running: Server) -> None:
    """Until both workers have started: one that has not is not waited for by a reload."""
    running.connect().close()
    until(lambda: _ask(f"http://127.0.0.1:{running.port}", KEY)["workers"] == 2)


class Load:
    """Clients that post pictures one after the other on connections of their own, and check every answer."""

    def __init__(self, port: int, query: str = "") -> None:
        self._port, self._path = port, f"/classify?top_k=1{query}"
        self._over = threading.Event()
        self.answers: Counter[str] = Counter()  # by the version that answered
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        while not self._over.is_set():
            for label, payload in IMAGES.items():
                try:
                    connection.request("POST", self._path, payload, {"Content-Type": "image/png"})
                    answer = connection.getresponse()
                    body = answer.read()
                except OSError as error:
                    self.wrong.append(repr(error))
                    connection.close()
                    continue
                if answer.status != 200 or json.loads(body)["predictions"][0]["label"] != label:
                    self.wrong.append(f"{label}: {answer.status} {body!r}")
                    continue
                self.answers[json.loads(body)["model"]["version"]] += 1
        connection.close()

    @contextmanager
    def going(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(PATIENCE_S)


def threads_of(running: Server) -> list[int]:
    """How many threads each worker has."""
    pid = running._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [len(list(Path(f"/proc/{child}/task").iterdir())) for child in children]


def test_twenty_swaps_under_load_fail_no_request(tmp_path: Path) -> None:
    bundle = put(tmp_path, "colours", "0")
    with served(bundle, "--workers", "2", "--log-level", "warning") as running:
        wait_for_both(running)
        with Load(running.port).going() as load:
            for version in range(1, SWAPS + 1):
                put(tmp_path, "colours", str(version))
                assert reload(running) == {"colours": "swapped"}
                assert running.classify(IMAGES["red"])["model"]["version"] == str(version)
                if version == 1:
                    threads = threads_of(running)
        assert load.wrong == []
        assert set(load.answers) == {str(version) for version in range(SWAPS + 1)}
        metrics = running.get("/metrics")
        assert f'mixer_reloads_total{{outcome="swapped"}} {2.0 * SWAPS}' in metrics
        assert [line for line in metrics.splitlines() if line.startswith("mixer_engine_info")] == [
            f'mixer_engine_info{{model="colours",precision="fp32",provider="cpu",version="{SWAPS}"}} 1.0'
        ]
        assert threads_of(running) == threads
        for broken in (b"no graph", (bundle / "fp32.onnx").read_bytes()[:500]):
            (tmp_path / "broken").write_bytes(broken)
            (tmp_path / "broken").replace(bundle / "fp32.onnx")
            with pytest.raises(ReloadFailed, match="colours was refused: "):
                reload(running)
        assert running.classify(IMAGES["red"])["model"]["version"] == str(SWAPS)
        put(tmp_path, "colours", "99")
        assert reload(running) == {"colours": "swapped"}
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hang_up_signal_reloads_every_process(workers: int, tmp_path: Path) -> None:
    bundle = put(tmp_path, "colours", "1")
    with served(bundle, "--workers", str(workers)) as running:
        running.wait_until_serving(workers)
        put(tmp_path, "colours", "2")
        running.signal(signal.SIGHUP)
        running.wait_for("reload: colours swapped", workers)
        assert running.classify(IMAGES["red"])["model"]["version"] == "2"
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_bundles_of_a_folder_come_and_go_under_load(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path, name, "1")
    with served(tmp_path, "--workers", "2", "--log-level", "warning") as running:
        wait_for_both(running)
        with Load(running.port, "&model=b").going() as load:
            for round_ in range(2, 5):
                put(tmp_path, "b", str(round_))
                put(tmp_path, "c", "1")
                assert reload(running) == {"a": "unchanged", "b": "swapped", "c": "added"}
                shutil.rmtree(tmp_path / "c")
                assert reload(running) == {"a": "unchanged", "b": "unchanged", "c": "removed"}
        assert load.wrong == []
        assert set(load.answers) == {"1", "2", "3", "4"}
        assert json.loads(running.get("/models"))["default"] == "a"
