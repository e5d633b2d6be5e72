"""benchmarks.soak: it notices wrong answers, lost requests and growth; and once all of it, with faults, in small.

Rolling restarts behind nginx are in faults/test_rolling_restart.py.
"""

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[2]

from app.engine.engine import EngineOptions, open_engine  # noqa: E402
from app.errors import EngineError  # noqa: E402
from benchmarks.serving.__main__ import opened  # noqa: E402
from benchmarks.soak import __main__ as soak  # noqa: E402
from benchmarks.soak.crowd import Crowd  # noqa: E402
from benchmarks.soak.director import agenda  # noqa: E402
from benchmarks.soak.errands import Errand, Traffic, mixed, request  # noqa: E402
from benchmarks.soak.expectations import Oracle, contains, problem  # noqa: E402
from benchmarks.soak.images import drawn  # noqa: E402
from benchmarks.soak.instances import Instance, Instances  # noqa: E402
from benchmarks.soak.ledger import LEFT, LOST, RIGHT, WRONG, Ledger, Weighing  # noqa: E402
from benchmarks.soak.report import markdown  # noqa: E402
from benchmarks.soak.shelf import Shelf  # noqa: E402
from benchmarks.soak.usage import Usage, usage  # noqa: E402
from benchmarks.soak.wire import Answer  # noqa: E402
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle  # noqa: E402

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """The bare path over red, green and blue."""
    return Oracle(opened(write_bundle(tmp_path_factory.mktemp("colours"), color_spec()), "auto"))


def answer(content: Any, status: int = 200, head: bytes = b"") -> Answer:
    return Answer(status, head, json.dumps(content).encode())


def classified(oracle: Oracle, payload: bytes, **changes: Any) -> dict[str, Any]:
    """What the service has to say."""
    found = cast(Any, oracle.ask(payload))
    order = sorted(range(len(found)), key=lambda index: -found[index])
    predictions = [
        {"label": oracle.spec.labels[index], "index": index, "probability": float(found[index])} for index in order
    ]
    return {"model": oracle.model, "predictions": predictions, **changes}


# --- what is right ---


def test_the_right_answer_is_right_and_another_pictures_is_not(oracle: Oracle) -> None:
    expect = oracle.one(image(RED))
    for _ in range(2):  # the second time it is remembered
        assert expect(answer(classified(oracle, image(RED)))) == ""
        assert "expected" in expect(answer(classified(oracle, image(GREEN))))
    assert expect(answer(classified(oracle, image(RED)), 500)) == "the status is 500; expected 200"


def test_every_part_of_an_answer_is_looked_at(oracle: Oracle) -> None:
    expect = oracle.one(image(RED))
    right = classified(oracle, image(RED))["predictions"]
    label = [{**right[0], "label": "green"}, *right[1:]]
    index = [{**right[0], "index": 1}, *right[1:]]
    probability = [{**right[0], "probability": right[0]["probability"] - 0.003}, *right[1:]]
    for predictions in (label, index, probability, right[:2], right[::-1], []):
        assert expect(answer({"model": oracle.model, "predictions": predictions})), predictions
    assert expect(answer(classified(oracle, image(RED), model={"name": "another"}))).startswith("the model is")
    assert "cannot be read" in expect(Answer(200, b"", b"<html>"))


def test_a_rounding_error_is_no_wrong_answer(oracle: Oracle) -> None:
    right = classified(oracle, image(RED))
    right["predictions"][0]["probability"] -= 1e-4
    assert oracle.one(image(RED))(answer(right)) == ""


def test_top_k_is_how_many_are_expected(oracle: Oracle) -> None:
    whole = classified(oracle, image(BLUE))
    two = {**whole, "predictions": whole["predictions"][:2]}
    assert oracle.one(image(BLUE), 2)(answer(two)) == ""
    assert oracle.one(image(BLUE), 2)(answer(whole)) == "3 predictions; expected 2 different ones"


def test_a_bad_picture_has_to_get_the_error_that_it_is(oracle: Oracle) -> None:
    expect = oracle.one(b"text")
    assert expect(answer({"status": 400, "code": "bad_picture"}, 400)) == ""
    assert expect(answer({"status": 415, "code": "unsupported_format"}, 415)).endswith("expected 400, bad_picture")
    assert expect(answer(classified(oracle, image(RED))))


def test_a_batch_has_to_be_right_in_every_entry_and_in_order(oracle: Oracle) -> None:
    files = [("a", image(RED)), ("b", b"text"), ("c", image(BLUE))]
    expect = oracle.many(files)

    def entry(name: str, payload: bytes) -> dict[str, Any]:
        return {"filename": name, "predictions": classified(oracle, payload)["predictions"]}

    bad = {"filename": "b", "error": {"code": "bad_picture", "detail": "..."}}
    right = [entry("a", image(RED)), bad, entry("c", image(BLUE))]
    assert expect(answer({"model": oracle.model, "results": right})) == ""
    swapped = [entry("a", image(BLUE)), bad, entry("c", image(RED))]
    renamed = [*right[:2], entry("another", image(BLUE))]
    for results in (swapped, renamed, right[::-1], right[:2], [right[0], entry("b", image(RED)), right[2]]):
        assert expect(answer({"model": oracle.model, "results": results}))


def test_a_problem_has_a_status_and_a_code() -> None:
    assert problem(404, "not_found")(answer({"status": 404, "code": "not_found"}, 404)) == ""
    assert problem(404, "not_found")(answer({"status": 404, "code": "other"}, 404))
    assert contains(b"x")(Answer(200, b"", b"axb")) == ""
    assert contains(b"x")(Answer(200, b"", b"ab")) == "b'x' is not in the answer"


def test_there_is_traffic_of_every_kind_and_chance_draws_it(oracle: Oracle) -> None:
    images = drawn(color_spec())
    assert len({one[:4] for one in images.formats}) >= 6
    traffic = mixed(images, oracle, Random(0))
    rng = Random(1)
    seen = {traffic.draw(rng).kind for _ in range(20_000)}
    assert seen == set(traffic.kinds)
    assert {"hang-up", "slow body", "pipelined", "batch with bad ones", "too large"} <= seen


def test_behind_a_proxy_nobody_asks_for_what_is_for_operators(oracle: Oracle) -> None:
    images = drawn(color_spec())
    for behind_proxy in (False, True):
        traffic = mixed(images, oracle, Random(0), behind_proxy=behind_proxy)
        asked = {piece.split()[1] for group in traffic.errands for errand in group for piece in errand.pieces[:1]}
        assert b"/health/ready" in asked
        assert (b"/metrics" in asked) is not behind_proxy


# --- versions ---


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(write_bundle(tmp_path / "source", color_spec()), "fp32", tmp_path / "shelf")


def by(version: str, temperature: float) -> dict[str, Any]:
    """What a version of the colours says of a red picture."""
    powers = [math.exp(logit / temperature) for logit in (10.0, 0.0, 0.0)]
    predictions = [
        {"label": label, "index": index, "probability": power / sum(powers)}
        for index, (label, power) in enumerate(zip(("red", "green", "blue"), powers, strict=True))
    ]
    return {"model": {"name": "colours", "version": version, "precision": "fp32"}, "predictions": predictions}


def test_a_version_has_to_give_its_own_answers_and_only_while_it_serves(tmp_path: Path) -> None:
    engine = opened(write_bundle(tmp_path / "colours", color_spec()), "fp32")
    oracle = Oracle(engine, {"8": 5.0})
    expect = oracle.one(image(RED))
    assert expect(answer(by("7", 1.0))) == ""
    assert expect(answer(by("8", 5.0))) == "version 8 has answered; expected 7"
    oracle.serving = {"7", "8"}
    assert expect(answer(by("8", 5.0))) == expect(answer(by("7", 1.0))) == ""
    assert "expected" in expect(answer(by("8", 1.0)))
    assert expect(answer(by("9", 1.0))).startswith("the model is")
    oracle.serving = {"8"}
    assert expect(answer(by("7", 1.0))) == "version 7 has answered; expected 8"  # though it was right before


def test_two_versions_take_each_others_place_and_a_spoilt_one_cannot_be_opened(shelf: Shelf) -> None:
    seen = []
    for _ in range(3):
        spec = open_engine(EngineOptions(shelf.bundle, provider="cpu")).spec
        seen.append((spec.version, spec.temperature))
        assert shelf.version == spec.version
        shelf.swap()
    assert seen == [("7", 1.0), ("7-cooler", 1.5), ("7", 1.0)]
    assert dict(seen) == shelf.temperatures
    shelf.spoil()
    with pytest.raises(EngineError):
        open_engine(EngineOptions(shelf.bundle, provider="cpu"))
    shelf.mend()
    assert open_engine(EngineOptions(shelf.bundle, provider="cpu")).spec.version == shelf.version


# --- what becomes of requests ---


async def answering(
    oracle: Oracle,
    tmp_path: Path,
    answers: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]],
    *errands: Errand,
    prepare: Callable[[Instance], None] = lambda instance: None,
) -> tuple[Ledger, Instance]:
    """Errands against a toy service that does `answers` for each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                await answers(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    log = tmp_path / "log.txt"
    log.write_bytes(b"")
    process = cast("subprocess.Popen[bytes]", SimpleNamespace(pid=os.getpid()))
    instance = Instance("toy", server.sockets[0].getsockname()[1], process, log)
    prepare(instance)
    instances = Instances([], {}, tmp_path)
    instances.current = instance
    ledger = Ledger()
    traffic = Traffic(tuple((one,) for one in errands), tuple(1.0 for _ in errands))
    crowd = Crowd(instances, traffic, ledger, Random(0), lambda drawn: drawn < 6)
    await crowd.run(2)
    server.close()
    return ledger, instance


def mark_of(head: bytes) -> bytes:
    return head.split(b"X-Request-ID: ")[1].split(b"\r\n")[0]


def reply(content: Any, mark: bytes, status: int = 200) -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 %d W\r\nX-Request-ID: %s\r\nContent-Length: %d\r\n\r\n" % (status, mark, len(body)) + body


@pytest.fixture
def red(oracle: Oracle) -> Errand:
    return Errand("red", (request(image(RED)),), (oracle.one(image(RED)),))


async def test_right_answers_are_right(oracle: Oracle, red: Errand, tmp_path: Path) -> None:
    async def right(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(classified(oracle, image(RED)), mark_of(head)))

    ledger, _ = await answering(oracle, tmp_path, right, red)
    assert ledger.outcomes == {("red", RIGHT): 6}
    assert ledger.verdict(0.05) == []


async def test_the_answer_to_somebody_elses_request_is_wrong(oracle: Oracle, red: Errand, tmp_path: Path) -> None:
    async def anothers(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(classified(oracle, image(RED)), b"soak-99999999-00"))

    ledger, _ = await answering(oracle, tmp_path, anothers, red)
    assert ledger.outcomes == {("red", WRONG): 6}
    assert ledger.verdict(0.05) == ["6 wrong"]


async def test_a_connection_closed_in_place_of_an_answer_is_a_lost_request(
    oracle: Oracle, red: Errand, tmp_path: Path
) -> None:
    async def silence(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    ledger, _ = await answering(oracle, tmp_path, silence, red)
    assert ledger.outcomes == {("red", LOST): 6}
    assert ledger.verdict(0.05) == ["6 lost"]
    assert "the connection was closed" in ledger.examples[0]


async def test_what_a_kill_breaks_is_tried_again_and_counted_apart(oracle: Oracle, red: Errand, tmp_path: Path) -> None:
    async def once(head: bytes, writer: asyncio.StreamWriter) -> None:
        if mark_of(head).endswith(b"-00"):
            writer.close()
        else:
            writer.write(reply(classified(oracle, image(RED)), mark_of(head)))

    def killed(instance: Instance) -> None:
        instance.kills.append(time.monotonic() + 60)

    ledger, _ = await answering(oracle, tmp_path, once, red, prepare=killed)
    assert ledger.outcomes == {("red", RIGHT): 6}
    assert ledger.detours == {"broken by kill -9": 6}


def test_what_a_killed_worker_had_answered_may_be_read_after_its_death() -> None:
    instance = Instance("killed", 0, cast("subprocess.Popen[bytes]", None), Path())
    assert not instance.was_killed_since(0.0)
    instance.kills.append(100.0)
    assert instance.was_killed_since(99.0)
    assert instance.was_killed_since(100.2)
    assert not instance.was_killed_since(101.0)


async def test_what_breaks_off_at_a_planned_end_is_lost_if_the_service_had_accepted_it(
    oracle: Oracle, red: Errand, tmp_path: Path
) -> None:
    async def once(head: bytes, writer: asyncio.StreamWriter) -> None:
        if mark_of(head).endswith(b"-00"):
            writer.close()
        else:
            writer.write(reply(classified(oracle, image(RED)), mark_of(head)))

    def stopping(instance: Instance) -> None:
        instance.stopped_at = time.monotonic()

    ledger, instance = await answering(oracle, tmp_path, once, red, prepare=stopping)
    assert ledger.outcomes == {("red", RIGHT): 6}
    assert ledger.detours == {"closed by a service that stops": 6}
    assert instance.accepted() == []
    instance.log.write_bytes(b"POST /classify 200 1.2ms id=soak-00000003-00\n")
    assert instance.accepted() == [b"soak-00000003-00"]


async def test_half_an_answer_is_a_lost_request_at_a_planned_end_too(
    oracle: Oracle, red: Errand, tmp_path: Path
) -> None:
    async def half(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(classified(oracle, image(RED)), mark_of(head))[:-9])
        writer.close()

    def stopping(instance: Instance) -> None:
        instance.stopped_at = time.monotonic()

    ledger, _ = await answering(oracle, tmp_path, half, red, prepare=stopping)
    assert ledger.outcomes == {("red", LOST): 6}
    assert not ledger.detours


async def test_the_refused_come_again(oracle: Oracle, red: Errand, tmp_path: Path) -> None:
    async def later(head: bytes, writer: asyncio.StreamWriter) -> None:
        refused = mark_of(head).endswith(b"-00")
        writer.write(reply(classified(oracle, image(RED)), mark_of(head), 429 if refused else 200))

    ledger, _ = await answering(oracle, tmp_path, later, red)
    assert ledger.outcomes == {("red", RIGHT): 6}
    assert ledger.detours == {"refused with 429": 6}


async def test_who_hangs_up_expects_nothing(oracle: Oracle, tmp_path: Path) -> None:
    async def never(head: bytes, writer: asyncio.StreamWriter) -> None:
        return

    content = request(image(RED))
    errands = [
        Errand("before", (), behaviour="leaves before"),
        Errand("during", (content[:-30],), behaviour="resets during"),
        Errand("after", (content,), behaviour="leaves after"),
    ]
    ledger, _ = await answering(oracle, tmp_path, never, *errands)
    assert ledger.count(LEFT) == ledger.requests == 6


# --- growth ---


@pytest.mark.process
def test_memory_threads_and_files_of_a_process_are_seen_to_grow(tmp_path: Path) -> None:
    before = usage([os.getpid()])
    block = bytearray(os.urandom(1 << 20) * 32)
    with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"):
        after = usage([os.getpid()])
    assert after.memory_bytes - before.memory_bytes > 0.5 * len(block)  # others may come and map the same files
    assert after.own_bytes - before.own_bytes > 0.9 * len(block)
    assert after.files == before.files + 2
    assert after.threads == before.threads
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert usage([os.getpid(), other.pid]).memory_bytes > after.memory_bytes
        other.stdin.write(b"\n")


def test_growth_beyond_the_limit_is_not_good_enough() -> None:
    before = Usage(100_000_000, 80_000_000, 20, 40)
    ledger = Ledger(weighings=[Weighing("instance 1", 1000, before, Usage(104_000_000, 85_000_000, 21, 42))])
    assert ledger.verdict(0.05) == []
    ledger.weighings.append(Weighing("instance 2", 1000, before, Usage(106_000_000, 80_000_000, 22, 40)))
    assert ledger.verdict(0.05) == [
        "instance 2: memory grew by 6.0%, more than 5%", "instance 2: threads grew by 10.0%, more than 5%",
    ]  # fmt: skip


def test_the_report_says_the_verdict_first() -> None:
    ledger = Ledger(seconds=2.0)
    ledger.note("small, raw", RIGHT)
    assert "Nothing wrong, nothing lost, nothing grew." in markdown({}, ledger, 0.05)
    ledger.note("small, raw", WRONG, "expected a coat")
    text = markdown({"processor": "a fast one"}, ledger, 0.05)
    assert "2 requests in 2 s (1/s; client: 0% of a CPU). **Not good enough: 1 wrong.**" in text
    assert "| small, raw | 2 | 1 | 0 | 1 | 0 |" in text
    assert "- small, raw, wrong: expected a coat" in text


def test_faults_are_spread_evenly() -> None:
    assert agenda(1, 2) == [(0.25, "restart"), (0.5, "kill"), (0.75, "restart")]
    assert agenda(0, 0) == []
    assert agenda(0, 1, 2) == [(0.15, "reload"), (0.5, "restart"), (0.65, "reload")]


def test_where_nobody_may_be_refused_a_second_try_is_not_good_enough() -> None:
    ledger = Ledger(detours=Counter({"refused with 503": 2}))
    assert ledger.verdict(0.05) == []
    ledger.are_detours_fine = False
    assert ledger.verdict(0.05) == ["2 refused with 503"]


# --- the whole of it ---


@pytest.mark.parametrize(
    "flags",
    [
        ["--requests", "0"],
        ["--kills", "-1"],
        ["--reloads", "-1"],
        ["--rolling-restarts", "1", "--kills", "1"],
        ["--set", "MIXER_WORKERS"],
    ],
)
def test_impossible_flags_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        soak.parsed(flags)
    assert "--" in capsys.readouterr().err


def test_memory_is_weighed_after_100_000_requests_or_half_of_those_between_two_faults() -> None:
    assert soak.parsed([]).settling == 100_000
    assert (
        soak.parsed(["--requests", "1000000", "--kills", "2", "--restarts", "2", "--reloads", "6"]).settling == 100_000
    )
    assert soak.parsed(["--requests", "20000", "--restarts", "3"]).settling == 2500


def soaked(tmp_path: Path, *flags: str, bundle: Path | None = None) -> "subprocess.CompletedProcess[str]":
    bundle = bundle or write_bundle(tmp_path / "bundle", color_spec())
    command = [
        sys.executable, "-m", "benchmarks.soak", "--bundle", str(bundle), "--out", str(tmp_path / "out"),
        "--cache", str(tmp_path), "--clients", "8", *flags,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110 * slowness_at_first(),
        check=False,
    )


@pytest.mark.process
def test_this_service_is_soaked_with_faults_and_nothing_is_lost(tmp_path: Path) -> None:
    done = soaked(
        tmp_path, "--requests", "1500", "--growth", "9", "--kills", "1", "--restarts", "1", "--reloads", "2",
        "--set", "MIXER_WORKERS=2", "MIXER_INSTANCES=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "out" / "soak.json").read_text())
    assert content["verdict"] == []
    assert content["requests"] >= 1500
    assert content["faults"] == {"kill": 1, "restart": 1, "reload": 2}
    assert {outcome for kind in content["outcomes"].values() for outcome in kind} <= {RIGHT, LEFT}
    assert set(content["outcomes"]) > {"small, raw", "batch", "bad picture", "hang-up"}
    assert (tmp_path / "out" / "soak.md").read_text() == done.stdout.rstrip("\n") + "\n"


@pytest.mark.process
def test_growth_ends_it_with_1(tmp_path: Path) -> None:
    done = soaked(tmp_path, "--requests", "200", "--settling", "20", "--growth", "-0.99")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "instance 1: memory grew by" in done.stdout


@pytest.mark.process
def test_a_service_that_does_not_start_is_told_in_a_line(tmp_path: Path) -> None:
    done = soaked(tmp_path, "--requests", "10", "--set", "MIXER_QUEUE_CAPACITY=-1")
    assert done.returncode == 1
    assert "instance 1 ended with 2: " in done.stdout
    assert "queue_capacity" in done.stdout.lower()
