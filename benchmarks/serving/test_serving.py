"""scripts/bench: its arithmetic, its client's eye for wrong answers, its tables; and once the whole of it, in small."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]

from app.engine.runners import Outputs  # noqa: E402
from benchmarks.serving import __main__ as bench  # noqa: E402
from benchmarks.serving import client, contest, environments, plots, results, tables, workloads  # noqa: E402
from benchmarks.serving.cells import Cell, Kind, cells  # noqa: E402
from benchmarks.serving.configurations import OURS, PEERS, Configuration, Graph, chosen, configurations  # noqa: E402
from benchmarks.serving.images import images  # noqa: E402
from benchmarks.serving.processes import descendants  # noqa: E402
from benchmarks.serving.server import Probe, Server, StartFailed, serving  # noqa: E402
from cli.bench.stopwatch import Candidate  # noqa: E402
from tests.app.color_bundle import color_spec, write_bundle  # noqa: E402

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

GRAPH = Graph(Path("/somewhere/bundle"), "int8", 8)
CELL = Cell("8x8 PNG", "raw", 8)


def outcome(images_s: float = 100, **changes: object) -> client.Outcome:
    """A second in which everything was right, but for `changes`."""
    fields = {"duration_s": 1.0, "answered": images_s, "wrong": 0, "failed": 0, "lost": 0, "timeouts": 0, "example": "",
              "p50_ms": 10.0, "p95_ms": 20.0, "p99_ms": 30.0, "max_ms": 40.0}  # fmt: skip
    return client.Outcome(**{**fields, **changes})


def turn(number: int, name: str, images_s: float, *, ceiling: float = 200, peer: str = "mosec", **changes: object):
    """A server's turn with one measurement."""
    run = results.Run(CELL, outcome(images_s, **changes), ceiling)
    return results.Turn(number, "default", name, peer, {CELL.workload: ceiling}, 1.5, 50_000_000, None, [run])


# --- who takes part ---


def test_everyone_serves_the_same_graph():
    for one in configurations(GRAPH, 2):
        if one.peer == OURS:
            assert one.variables["MIXER_BUNDLE"] == "/somewhere/bundle"
            assert one.variables["MIXER_PRECISION"] == "int8"
        else:
            assert one.variables["PEER_GRAPH"] == "/somewhere/bundle/int8.onnx"


def test_every_peer_takes_part_and_every_name_is_its_own():
    found = configurations(GRAPH, 2)
    assert {one.peer for one in found} == {OURS, *PEERS}
    assert len({one.name for one in found}) == len(found)
    for peer in set(PEERS) - {"fastapi"}:  # which has no batching
        batching = {"PEER_MAX_BATCH_SIZE" in one.variables for one in found if one.peer == peer}
        assert batching == {True, False}, peer
    assert {one.peer for one in found if "multipart" not in one.bodies} == {"mosec"}


def test_some_may_be_chosen_by_part_of_a_name_or_by_peer():
    found = configurations(GRAPH, 2)
    assert {one.peer for one in chosen(found, ["ray", "FASTAPI, 1"])} == {"ray", "fastapi"}
    assert chosen(found, []) == found
    with pytest.raises(ValueError, match="--only is 'nginx'; expected part of one of: this service, as it comes"):
        chosen(found, ["mosec", "nginx"])


@pytest.mark.parametrize("peer", PEERS)
def test_what_computes_has_the_same_version_everywhere(peer: str):
    def pins(path: Path) -> dict[str, str]:
        lines = [line for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")]
        return {name.lower(): version for name, version in (line.split("==") for line in lines)}

    project, own = pins(ROOT / "constraints.txt"), pins(environments.constraints(peer))
    for name in ("onnxruntime", "numpy", "pillow"):
        assert own[name] == project[name], f"{peer} has another {name}"


def test_an_environment_is_made_once_and_again_when_its_versions_change(tmp_path: Path):
    calls: list[tuple[str, ...]] = []

    def call(*command: str) -> None:
        calls.append(command)
        (tmp_path / "mosec").mkdir(exist_ok=True)

    assert environments.prepare("mosec", tmp_path, call) == tmp_path / "mosec" / "bin"
    assert [("venv" in command, "pip" in command) for command in calls] == [(True, False), (False, True)]
    assert str(environments.constraints("mosec")) in calls[1]
    environments.prepare("mosec", tmp_path, call)
    assert len(calls) == 2
    (tmp_path / "mosec" / ".installed").write_text("other versions")
    environments.prepare("mosec", tmp_path, call)
    assert len(calls) == 4


@pytest.mark.process
def test_a_failed_installation_is_told_and_not_taken_for_one():
    with pytest.raises(environments.NotInstalled, match=r"^ERROR: no such thing$"):
        environments.call("sh", "-c", "echo WARNING: x >&2; echo 'ERROR: no such thing' >&2; echo hint >&2; exit 1")


# --- when, and for how long ---


def test_the_order_turns_round_every_other_round():
    assert list(contest.in_turn("abc", 3)) == [
        (0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c"),
    ]  # fmt: skip


def test_a_measurement_lasts_until_every_connection_may_have_had_four_answers():
    assert contest.run_for(5, connections=8, images_s=1000) == 5
    assert contest.run_for(0.5, connections=1, images_s=100) == 0.5
    assert contest.run_for(5, connections=128, images_s=60) == 9  # 8.5 s, in the whole seconds that wrk knows
    assert contest.run_for(5, connections=128, images_s=0.1) == 120


def test_the_ceiling_is_the_fastest_batch():
    work = [Candidate(1, lambda: 1.0), Candidate(4, lambda: 1e6), Candidate(8, lambda: 2.0)]
    ceiling = contest.fastest(work, seconds=1e-3, rounds=1)
    assert ceiling.candidate.key == 4
    assert ceiling.images_s(1e-3) > 1e6


def test_cells_are_every_combination():
    found = list(cells(["a"], ["raw", "multipart"], [1, 8]))
    assert found == [Cell("a", "raw", 1), Cell("a", "raw", 8), Cell("a", "multipart", 1), Cell("a", "multipart", 8)]


# --- what the client saw ---


def report(**changes: object) -> str:
    fields = {
        "duration_s": 2.0, "sent": 101, "answered": 100, "wrong": 0, "failed": 0, "example": "",
        "connect": 0, "read": 0, "write": 0, "timeout": 0,
        "p50_ms": 1.5, "p95_ms": 2.5, "p99_ms": 3.5, "max_ms": 9,
    }  # fmt: skip
    return json.dumps({**fields, **changes})


def test_a_rate_counts_right_answers_only():
    found = client.parse(report(wrong=10, failed=5), connections=1)
    assert found.images_s == 42.5
    assert found.p99_ms == 3.5


def test_requests_that_wait_at_the_end_are_not_lost():
    assert client.parse(report(sent=109), connections=8).fault is None  # 8 waiting, and one that is made for a trial
    assert client.parse(report(sent=110), connections=8).fault == "1 lost of 101"
    assert client.parse(report(read=2), connections=8).fault == "2 lost of 102"


def test_any_fault_disqualifies_and_is_counted():
    assert client.parse(report(wrong=3, failed=1, example="500"), 1).fault == "3 wrong, 1 failed of 100 (500)"
    assert client.parse(report(timeout=1), 1).fault == "1 timed out of 101"
    assert client.parse(report(answered=0, sent=1), 1).fault == "no answer in 2.0 s"


@pytest.mark.parametrize(("connections", "groups", "threads"), [(1, 4, 1), (8, 4, 4), (8, 1, 1), (6, 4, 3), (32, 3, 2)])
def test_connections_are_shared_out_evenly_among_threads_of_one_label_each(connections: int, groups: int, threads: int):
    assert client.threads_for(connections, groups) == threads


class Answers(BaseHTTPRequestHandler):
    """Takes the body for the label; `answer` says what becomes of it."""

    protocol_version = "HTTP/1.1"
    answer: Callable[[str], tuple[int, str] | None]

    def do_POST(self) -> None:
        label = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answer = type(self).answer(label)
        if answer is None:
            self.close_connection = True
            return
        status, best = answer
        body = json.dumps({"predictions": [{"label": best}, {"label": "another"}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Listening(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """wrk hangs up in the middle when its time is over."""


@contextmanager
def answering(answer: Callable[[str], tuple[int, str] | None]) -> Iterator[int]:
    with Listening(("127.0.0.1", 0), type("Own", (Answers,), {"answer": staticmethod(answer)})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def plan(tmp_path: Path) -> client.Plan:
    """Two pictures of each of four labels."""
    groups = []
    for label in ("coat", "bag", "T-shirt/top", "dress"):
        files = [tmp_path / f"{len(groups)}{number}" for number in range(2)]
        for file in files:
            file.write_text(label)
        groups.append(client.Group(label, tuple(files)))
    return client.Plan("/classify", "text/plain", tuple(groups))


@pytest.mark.process
@needs_wrk
@pytest.mark.parametrize("connections", [1, 4])
def test_right_answers_pass(plan: client.Plan, connections: int):
    asked: list[str] = []

    def answer(label: str) -> tuple[int, str]:
        asked.append(label)
        return 200, label

    with answering(answer) as port:
        found = client.run(plan, port, connections, 0.3)
    assert found.fault is None
    assert 0 < found.answered <= len(asked)
    assert found.images_s == pytest.approx(found.answered / found.duration_s)
    assert set(asked) == {"coat", "bag", "T-shirt/top", "dress"}, "every label is sent, over one connection too"
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms <= found.max_ms


@pytest.mark.process
@needs_wrk
@pytest.mark.parametrize("connections", [1, 4])
def test_an_answer_to_another_picture_is_found_out(plan: client.Plan, connections: int):
    before = ["nothing"]

    def answer(label: str) -> tuple[int, str]:
        before.append(label)
        return 200, next(one for one in reversed(before) if one != label)

    with answering(answer) as port:
        found = client.run(plan, port, connections, 0.3)
    assert found.wrong == found.answered > 0
    assert found.images_s == 0
    assert "expected" in (found.fault or "")


@pytest.mark.process
@needs_wrk
def test_three_labels_are_not_mixed_in_two_threads(plan: client.Plan):
    three = client.Plan(plan.path, plan.content_type, plan.groups[:3])
    with answering(lambda label: (200, label)) as port:
        assert client.run(three, port, 4, 0.3).fault is None


def test_a_plan_is_written_as_lua_whatever_is_in_it():
    group = client.Group('a "b" \\', (Path("/x/y"),))
    assert client.Plan("/p", "t", (group,)).as_lua() == (
        'return { path = "/p", content_type = "t", groups = { { label = "a \\34b\\34 \\92", files = { "/x/y" } }, } }\n'
    )


@pytest.mark.process
@needs_wrk
def test_failures_and_lost_requests_are_counted(plan: client.Plan):
    number = count()
    with answering(lambda label: (500, "broken") if next(number) % 2 else (200, label)) as port:
        failing = client.run(plan, port, 1, 0.3)
    assert 0 < failing.failed < failing.answered
    assert "500 {" in failing.example
    with answering(lambda label: None) as port:
        closing = client.run(plan, port, 1, 0.3)
    assert closing.answered == 0
    assert closing.lost > 0


# --- the pictures ---


def test_only_pictures_with_a_clear_answer_are_sent():
    logits = {b"sure": [1.0, 9.0, 0.0], b"unsure": [5.0, 5.1, 0.0], b"flat": [1.0, 1.0, 1.0]}
    spec = color_spec()
    found = workloads.clear_answers(
        list(logits), spec, lambda payload: payload, lambda batch: Outputs(np.array([logits[batch[0]]]))
    )
    assert found == [workloads.Answered(b"sure", "green")]


def test_labels_with_many_pictures_come_first_and_no_more_than_threads():
    answered = [workloads.Answered(b"%d" % number, label) for number, label in enumerate("abbccccccdef")]
    groups = workloads.by_label(answered)
    assert [(group[0].label, len(group)) for group in groups] == [("c", 4), ("b", 2), ("a", 1), ("d", 1)]


def test_pictures_are_drawn_once_and_the_same_every_time(tmp_path: Path):
    kind = Kind("40x30 JPEG", "default", 40, 30, "JPEG", pool=3)
    first = images(kind, 3, tmp_path / "a")
    assert len(set(first)) == 3
    assert images(kind, 3, tmp_path / "b") == first
    (kept,) = (tmp_path / "a").iterdir()
    (kept / "1.jpeg").write_bytes(b"kept")
    assert images(kind, 3, tmp_path / "a") == [first[0], b"kept", first[2]]


def test_variations_of_the_examples_differ(tmp_path: Path):
    kind = Kind("28x28 PNG", "small", 28, 28, "PNG", "examples", pool=40)
    assert len(set(images(kind, 1, tmp_path))) == 40
    photographs = images(bench.CLOTHES, 3, tmp_path)
    assert len(set(photographs)) == bench.CLOTHES.pool
    with Image.open(BytesIO(photographs[-1])) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (bench.CLOTHES.width, bench.CLOTHES.height))


# --- what it comes to ---


def test_a_figure_is_the_median_of_its_rounds():
    found = results.Results([turn(0, "m", 90), turn(1, "m", 100), turn(2, "m", 120, ceiling=400)]).figure("m", CELL)
    assert found is not None
    assert found.images_s.median == 100
    assert found.images_s.half == 0.15
    assert found.share.median == 0.45
    assert found.faults == ()


def test_a_wrong_answer_in_any_round_disqualifies():
    found = results.Results([turn(0, "quick", 500), turn(1, "quick", 500, wrong=1), turn(0, "m", 10), turn(1, "m", 10)])
    assert found.best(CELL, ["mosec"]) == "m"
    assert found.faults() == ["quick, 8x8 PNG, raw, 8 connections, round 2: 1 wrong of 500"]


def test_the_comparison_is_made_round_by_round():
    turns = [turn(0, "mine", 100, peer=OURS), turn(1, "mine", 300, peer=OURS), turn(2, "mine", 90, peer=OURS)]
    turns += [turn(0, "theirs", 50), turn(1, "theirs", 100), turn(2, "theirs", 90)]
    turns += [turn(number, "slow", 1) for number in range(3)]
    duel = results.Results(turns).duel(CELL)
    assert duel == results.Duel("mine", 0.5, "theirs", 2.0)
    assert results.Results(turns[:3]).duel(CELL) is None


def test_the_tables_say_who_was_disqualified_or_did_not_start_and_why():
    broken = results.Turn(0, "default", "silent", "ray", {CELL.workload: 200.0}, failure="it ended with 1: no|port")
    found = results.Results(
        [turn(0, "mine", 150, peer=OURS), turn(0, "hasty", 900, failed=2), turn(0, "m", 75), broken]
    )
    circumstances = tables.Circumstances(
        {"processor": "a fast one"}, {}, {OURS: {"numpy": "2"}}, {"litserve": "no wheel"}
    )
    text = tables.markdown(circumstances, found)
    assert "- processor: a fast one" in text
    assert "| 8x8 PNG | raw | 8 | mine | 0.75 | m | 2.00 |" in text
    assert "| mine | 150 ±0% (0.75) |" in text
    assert "| mine | 10.0 / 20.0 / 30.0 |" in text
    assert "| hasty | disqualified: 2 failed of 900 |" in text
    assert "| mine | 1.5 ±0% | 50 ±0% |" in text
    assert "| silent | did not start |  |" in text
    assert "- silent with default, round 1: it ended with 1: no|port" in text
    assert "- litserve is not installed: no wheel" in text


def test_a_bar_does_not_break_a_table():
    assert tables.table(["a", "b"], [["x|y", "z"]]) == "| a | b |\n| --- | --- |\n| x/y | z |"


def test_a_plot_is_drawn_of_each_workload(tmp_path: Path):
    found = results.Results([turn(0, "mine", 150, peer=OURS), turn(0, "hasty", 900, failed=2)])
    assert plots.draw(found, tmp_path) == [tmp_path / "8x8-png.png"]
    assert (tmp_path / "8x8-png.png").read_bytes().startswith(b"\x89PNG")


# --- servers and their processes ---

PROBE = Probe("/classify", "text/plain", b"")


@pytest.mark.process
def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path):
    configuration = Configuration("broken", "sh", ("sh", "-c", "echo one; echo the port is taken; exit 3"))
    with (
        pytest.raises(StartFailed, match=r"^it ended with 3: the port is taken$"),
        serving(configuration, Path("/bin"), PROBE, tmp_path / "log"),
    ):
        pass


@pytest.mark.process
def test_a_server_that_never_answers_is_told(tmp_path: Path):
    configuration = Configuration("silent", "sh", ("sh", "-c", "echo loading {port}; exec sleep 100"))
    with (
        pytest.raises(StartFailed, match=r"^it does not listen; the last it said: loading \d+$"),
        serving(configuration, Path("/bin"), PROBE, tmp_path / "log", timeout_s=0.2),
    ):
        pass


@pytest.mark.process
def test_what_a_server_let_loose_is_weighed_and_ended():
    """In a process of its own, which adopts and ends whatever is below it."""
    script = """
import os, subprocess
from benchmarks.serving.processes import adopt_orphans, descendants, end_all, memory_bytes
adopt_orphans()
spared = subprocess.Popen(["sleep", "100"])
subprocess.run(["sh", "-c", "sleep 100 & setsid sleep 100 &"], check=True)
loose = [one for one in descendants(os.getpid()) if one != spared.pid]
print(len(loose) == 2, memory_bytes(loose) > 0, memory_bytes(loose) < 50_000_000)
end_all({spared.pid})
print(descendants(os.getpid()) == [spared.pid])
end_all()
print(descendants(os.getpid()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60 * slowness_at_first(),
        check=False,
    )
    assert done.stdout.splitlines() == ["True True True", "True", "[]"], done.stderr


# --- the whole of it ---


def test_flags_left_out_depend_on_quick():
    full, quick = bench.parsed([]), bench.parsed(["--quick", "--seconds", "2"])
    assert (full.rounds, full.seconds, full.connections) == (5, 5.0, [1, 8, 32, 128])
    assert (quick.rounds, quick.seconds, quick.connections) == (1, 2.0, [1, 8])


def test_workloads_may_be_chosen():
    kinds = [SimpleNamespace(name=name) for name in ("28x28 PNG", "500x375 JPEG", "4032x3024 JPEG")]
    assert [kind.name for kind in bench.wanted(kinds, ["jpeg"])] == ["500x375 JPEG", "4032x3024 JPEG"]
    with pytest.raises(ValueError, match="--workloads is 'gif'; expected part of 28x28 PNG, 500x375 JPEG"):
        bench.wanted(kinds, ["gif"])


@pytest.mark.process
def test_the_script_says_what_is_missing(tmp_path: Path):
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "/usr/bin/dirname")
    script = str(ROOT / "scripts" / "bench")
    done = subprocess.run([script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "scripts/bench: wrk is missing; expected Debian's package wrk.\n"


def driver(tmp_path: Path, *flags: str) -> "subprocess.Popen[str]":
    bundle = write_bundle(tmp_path / "bundle", color_spec())
    command = [
        sys.executable, "-m", "benchmarks.serving", "--quick", "--workloads", "8x8", "--bundle", str(bundle),
        "--only", "this service, batches of 1", "--out", str(tmp_path / "out"),
        "--cache", str(tmp_path / "cache"), *flags,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.process
@needs_wrk
def test_a_server_that_still_works_for_clients_that_have_gone_is_waited_for() -> None:
    spared = frozenset(descendants(os.getpid()))
    program = "import time\nwhile time.process_time() < 0.7: pass\nprint('done', flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        Server(1, 0.0, spared).await_rest()
        assert select.select([busy.stdout], [], [], 0)[0]
        busy.kill()


@pytest.mark.process
@needs_wrk
def test_this_service_is_measured_from_start_to_table(tmp_path: Path):
    with driver(tmp_path, "--rounds", "2", "--seconds", "0.2", "--connections", "1", "4") as process:
        printed, said = process.communicate(timeout=100 * slowness_at_first())
    assert process.returncode == 0, said
    out = tmp_path / "out"
    content = json.loads((out / "results.json").read_text())
    assert content["circumstances"]["workloads"]["8x8 PNG"].endswith("3 different labels")
    first, second = content["turns"]
    where = [(run["body"], run["connections"]) for run in first["runs"]]
    assert where == [("raw", 1), ("raw", 4), ("multipart", 1), ("multipart", 4)]
    assert [(run["body"], run["connections"]) for run in second["runs"]] == where[::-1]
    for each in (first, second):
        assert each["startup_s"] > 0
        assert each["memory_bytes"] > 20e6
        assert each["ceilings"]["8x8 PNG"] > 0
        for run in each["runs"]:
            assert run["fault"] is None
            assert run["images_s"] > 0
            assert run["share"] == pytest.approx(run["images_s"] / each["ceilings"]["8x8 PNG"])
    assert (out / "results.md").read_text() == printed.rstrip("\n") + "\n"
    assert "### 8x8 PNG, multipart: images/s by connections" in printed
    assert (out / "8x8-png.png").stat().st_size > 10_000


@pytest.mark.process
@needs_wrk
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, number: int):
    with driver(tmp_path, "--seconds", "2", "--connections", "1") as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert any("raw, 1 connections" in line for line in said), "a measurement began"
        below = descendants(process.pid)
        process.send_signal(number)
        process.communicate(timeout=60 * slowness_at_first())
    assert process.returncode == 128 + number
    assert below, "there was a server"
    assert [one for one in below if is_alive(one)] == []


def is_alive(process: int) -> bool:
    """A zombie that waits for init is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
