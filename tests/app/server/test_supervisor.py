"""Worker processes: replaced when they die or hang, told to stop, ended with whoever watches over them.

The supervisor runs in a process of its own, with tiny works: "worker 0 is 123" is the first line of each.
"""

import os
import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.app.servers import Server
from tests.pace import is_within

pytestmark = pytest.mark.process

_SUPERVISED = """
import logging, os, signal, sys, threading, time
from app.telemetry import logs
from app.server import restarts, supervisor
from app.system import signals
from app.errors import BadSettings, StartError
from app.server.supervisor import Supervisor

def say(*words):
    os.write(2, (" ".join(map(str, words)) + "\\n").encode())

def sleep_forever():
    while True:  # not signal.pause(): what comes right before that is handled after it
        time.sleep(0.02)

def outlive(worker):
    os.read(worker.parent_pipe, 1)
    time.sleep(1)  # for those that end by themselves
    os._exit(1)

def work(worker):
    threading.Thread(target=outlive, args=[worker], daemon=True).start()  # a failed test leaves none behind
    say("worker", worker.number, "is", os.getpid())
    return WORK(worker)

def until_told(worker, code=0):
    told = []
    for number in signals.STOPPING:
        signal.signal(number, lambda number, _: told.append(number))
    worker.heartbeat()
    say("beating", worker.number)
    while not told:
        worker.heartbeat()
        time.sleep(0.02)
    return code

COUNT, GRACE_S, HEARTBEAT_TIMEOUT_S = 2, 20, 20
{script}
logs.configure("text", "info")
try:
    code = Supervisor(work, COUNT, grace_s=GRACE_S, heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S).run()
except StartError as error:
    say("mixer:", error)
    code = error.exit_code
say("signals held afterwards:", sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))))
sys.exit(code)
"""
BORN = r"^worker (\d) is (\d+)$"


class Supervised(Server):
    """A supervisor with the given WORK, COUNT, ..."""

    def __init__(self, script: str) -> None:
        super().__init__("-c", _SUPERVISED.format(script=script), port=0)

    def born(self, count: int) -> list[tuple[int, int]]:
        """Numbers and processes of the first `count` workers."""
        self.wait_for(BORN, count)
        found = (re.match(BORN, line) for line in list(self.lines))
        return [(int(match[1]), int(match[2])) for match in found if match]

    def beating(self, count: int = 2) -> dict[int, int]:
        """The processes of the first workers by number, once they have shown a heartbeat."""
        self.wait_for("^beating", count)
        return dict(self.born(2)[:2])


UNTIL_TOLD = "WORK = until_told"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_tells_every_worker_and_waits_for_them(number: signal.Signals) -> None:
    with Supervised(UNTIL_TOLD) as running:
        pids = running.beating()
        assert sorted(pids) == [0, 1]
        running.signal(number)
        assert running.exit_code() == 0
        assert running.lines[-1] == "signals held afterwards: []\n"
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("until_told(worker, 3 * worker.number)", 3),
        ("until_told(worker) or sys.exit(4)", 4),
        ("until_told(worker) or sys.exit('words')", 1),
        ("until_told(worker) or os.kill(os.getpid(), signal.SIGTERM)", 1),  # None is no exit code
        ("until_told(worker) or os.kill(os.getpid(), signal.SIGABRT)", signal.SIGABRT),
    ],
)
def test_the_exit_code_is_the_worst_of_the_workers(work: str, code: int) -> None:
    with Supervised(f"WORK = lambda worker: {work}") as running:
        running.beating()
        running.signal(signal.SIGTERM)
        assert running.exit_code() == code


_LATE = """
import asyncio
from app.telemetry.line_buffer import write_info

async def request(worker):
    write_info(logging.getLogger("mixer.access"), f"the last of {worker.number}", {})

def WORK(worker):
    until_told(worker)
    asyncio.run(request(worker))
    END
"""


@pytest.mark.parametrize("end", ["return 0", "sys.exit(0)", "raise StartError('words')", "raise ValueError"])
def test_a_line_that_waits_to_be_written_when_a_worker_ends_is_not_lost(end: str) -> None:
    with Supervised(_LATE.replace("END", end)) as running:
        running.beating()
        running.signal(signal.SIGTERM)
        running.exit_code()
        assert {line.partition("mixer.access ")[2] for line in running.lines} >= {"the last of 0\n", "the last of 1\n"}


def test_a_worker_that_a_stop_signal_ends_has_ended_well() -> None:
    with Supervised("def WORK(worker):\n    say('beating')\n    worker.heartbeat()\n    sleep_forever()") as running:
        running.beating()
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_a_second_signal_reaches_the_workers_too() -> None:
    script = """
def WORK(worker):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: (told.append(1), say("told", len(told))))
    worker.heartbeat()
    say("beating")
    while len(told) < 2:
        time.sleep(0.02)
    return 0
"""
    with Supervised(script) as running:
        running.beating()
        running.signal(signal.SIGTERM)
        running.wait_for("^told 1", 2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert running.lines.count("told 2\n") == 2


def test_signals_that_come_while_a_worker_ends_do_not_make_it_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)  # a signal that raises inside coverage leaves its lock held, for which it waits later
    script = """
def WORK(worker):
    signals.exit_when_told(once=True)
    worker.heartbeat()
    say("beating", worker.number)
    sleep_forever()

once = os.kill

def kill(pid, number):
    threading.Thread(target=again_and_again, args=[pid, number]).start()

def again_and_again(pid, number):
    try:
        while True:
            once(pid, number)
    except ProcessLookupError:
        pass

os.kill = kill
"""
    for _ in range(3):
        with Supervised(script) as running:
            running.beating()
            running.signal(signal.SIGTERM)
            assert running.exit_code() == 0
            assert not [line for line in running.lines if "Traceback" in line]


def test_what_a_terminal_sends_to_all_of_them_reaches_each_worker_once() -> None:
    script = """
os.setpgid(0, 0)
def WORK(worker):
    told = []
    signal.signal(signal.SIGINT, lambda *_: (told.append(1), say("told", len(told))))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    worker.heartbeat()
    say("beating")
    sleep_forever()
"""
    with Supervised(script) as running:
        running.beating()
        os.killpg(running._process.pid, signal.SIGINT)
        running.wait_for("^told 1", 2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert "told 2\n" not in running.lines


def test_who_does_not_stop_in_time_is_killed() -> None:
    script = """
GRACE_S = 0.2
def WORK(worker):
    for number in signals.STOPPING:
        signal.signal(number, signal.SIG_IGN if worker.number else signal.SIG_DFL)
    worker.heartbeat()
    say("beating")
    sleep_forever()
"""
    with Supervised(script) as running:
        pids = running.beating()
        running.signal(signal.SIGTERM)
        assert running.exit_code() == signal.SIGKILL
        assert [line for line in running.lines if f"worker 1 (process {pids[1]}) hangs, and is killed" in line]
        assert not [line for line in running.lines if "worker 0" in line and "hangs" in line]


def test_a_worker_begins_with_ordinary_signals_and_knows_its_post() -> None:
    script = """
def WORK(worker):
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    say("held", sorted(held), "stopping", [signal.getsignal(n) == signal.SIG_DFL for n in signals.STOPPING])
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.beating()
        assert running.wait_for(r"^held \[\] stopping \[True, True\]", 2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


# --- replaced ---


def test_a_killed_worker_is_replaced_within_two_seconds_and_the_others_stay() -> None:
    with Supervised(UNTIL_TOLD) as running:
        pids = running.beating()
        os.kill(pids[1], signal.SIGKILL)
        before = time.monotonic()
        running.wait_for(rf"mixer\.workers worker 1 \(process {pids[1]}\) was ended by SIGKILL, and is replaced")
        number, successor = running.born(3)[2]
        assert is_within(time.monotonic() - before, 2, time.perf_counter)
        assert (number, successor != pids[1]) == (1, True)
        running.wait_for("^beating", 3)
        assert Path(f"/proc/{pids[0]}").exists()
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_one_that_ends_by_itself_is_replaced_too_whatever_its_exit_code() -> None:
    script = """
import tempfile
marks = [tempfile.mktemp(), tempfile.mktemp()]
def WORK(worker):
    if not os.path.exists(marks[worker.number]):
        open(marks[worker.number], "w").close()
        worker.heartbeat()
        return 5 * worker.number
    os.unlink(marks[worker.number])
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^beating", 2)
        assert sorted(number for number, _ in running.born(4)) == [0, 0, 1, 1]
        running.wait_for("worker 0 .* ended with exit code 0, and is replaced")
        running.wait_for("worker 1 .* ended with exit code 5, and is replaced")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_one_that_dies_young_again_and_again_does_not_keep_the_processor_busy() -> None:
    script = """
COUNT = 1
supervisor._PAUSE_S = 0.3
def WORK(worker):
    say("born at", time.monotonic())
    worker.heartbeat()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with Supervised(script) as running:
        births = [float(at) for at in running.wait_for(r"^born at ([\d.]+)", 4)]
        assert all(later - earlier >= 0.3 for earlier, later in pairwise(births))
        running.signal(signal.SIGTERM)  # even where none is alive at this moment
        assert running.exit_code() in (0, signal.SIGKILL)


def test_one_that_is_due_does_not_wait_for_the_next_look() -> None:
    script = """
COUNT = 1
supervisor._TICK_S, supervisor._PAUSE_S = 1000.0, 0.2
WORK = until_told
"""
    with Supervised(script) as running:
        running.wait_for("^beating")
        os.kill(running.born(1)[0][1], signal.SIGKILL)
        running.wait_for("^beating", 2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_one_that_was_due_when_it_was_told_to_stop_is_not_started_and_costs_nothing_more() -> None:
    script = """
import atexit
atexit.register(lambda began: say("processor seconds", time.process_time() - began), time.process_time())
supervisor._TICK_S, supervisor._PAUSE_S = 1000.0, 0.3
def WORK(worker):
    if worker.number:
        worker.heartbeat()
        say("beating")
        time.sleep(0.1)
        return 5
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    worker.heartbeat()
    say("beating")
    while not told:
        time.sleep(0.02)
    time.sleep(1.3)  # it drains
    return 0
"""
    with Supervised(script) as running:
        running.wait_for("worker 1 .* ended with exit code 5, and is replaced")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert len(running.born(2)) == 2
        assert float(running.wait_for(r"^processor seconds ([\d.]+)")[0]) < 0.5


def test_one_that_was_old_is_replaced_at_once() -> None:
    script = """
supervisor._YOUNG_S, supervisor._PAUSE_S = 0.0, 1000.0
WORK = until_told
"""
    with Supervised(script) as running:
        pids = running.beating()
        os.kill(pids[0], signal.SIGKILL)
        assert running.born(3)[2][0] == 0
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


@pytest.mark.parametrize("how", ["stopped", "busy"])
def test_one_that_hangs_is_killed_and_replaced(how: str) -> None:
    script = """
HEARTBEAT_TIMEOUT_S = 2  # the other one is not to miss it on a busy machine
def hang(*_):
    while True:
        time.sleep(1000)
def WORK(worker):
    signal.signal(signal.SIGUSR1, hang)
    return until_told(worker)
"""
    with Supervised(script) as running:
        pids = running.beating()
        os.kill(pids[0], signal.SIGSTOP if how == "stopped" else signal.SIGUSR1)
        running.wait_for(rf"worker 0 \(process {pids[0]}\) hangs, and is killed")
        running.wait_for("worker 0 .* was ended by SIGKILL, and is replaced")
        assert running.born(3)[2][0] == 0
        running.wait_for("^beating", 3)
        assert Path(f"/proc/{pids[1]}").exists()
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "worker 1 " in line and "hangs" in line]


def test_one_that_takes_long_to_start_does_not_hang() -> None:
    script = """
COUNT, HEARTBEAT_TIMEOUT_S = 1, 2  # a healthy one is not to miss it on a busy machine
def WORK(worker):
    time.sleep(3)  # no pulse yet: it loads its model
    return until_told(worker)
supervisor._TICK_S = 0.05
"""
    with Supervised(script) as running:
        running.wait_for("^beating")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "hangs" in line]


@pytest.mark.parametrize("which", ["the first", "its replacement"])
def test_one_that_hangs_while_it_starts_is_killed_and_replaced_in_the_end(which: str) -> None:
    script = f"""
COUNT, HEARTBEAT_TIMEOUT_S = 1, 2  # a healthy one is not to miss it on a busy machine
restarts._START_S, restarts._START_TIMEOUTS, supervisor._PAUSE_S, supervisor._TICK_S = 2, 1, 0.0, 0.05
import tempfile
marks = tempfile.mkdtemp()
HANGS = {1 if which == "the first" else 2}
def WORK(worker):
    open(os.path.join(marks, str(os.getpid())), "w").close()
    born = len(os.listdir(marks))
    if born == HANGS:
        say("opens a bundle that never comes")
        sleep_forever()
    if born < HANGS:
        worker.heartbeat()
        return 5
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^opens")
        running.wait_for(r"worker 0 \(process \d+\) hangs, and is killed")
        running.wait_for("worker 0 .* was ended by SIGKILL, and is replaced")
        running.wait_for("^beating")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert len([line for line in running.lines if "hangs" in line]) == 1


def test_where_pulses_may_be_far_apart_a_start_may_take_longer_too() -> None:
    script = """
COUNT, HEARTBEAT_TIMEOUT_S = 1, 2  # a healthy one is not to miss it on a busy machine
restarts._START_S, supervisor._TICK_S = 0.1, 0.05
def WORK(worker):
    time.sleep(3)
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^beating")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "hangs" in line]


def test_a_replacement_is_given_time_whenever_its_predecessor_was_last_seen() -> None:
    script = """
COUNT, HEARTBEAT_TIMEOUT_S = 1, 2  # a healthy one is not to miss it on a busy machine
supervisor._PAUSE_S, supervisor._TICK_S = 0.0, 0.05
import tempfile
mark = tempfile.mktemp()
def WORK(worker):
    if os.path.exists(mark):
        os.unlink(mark)
        time.sleep(3)
        return until_told(worker)
    open(mark, "w").close()
    worker.heartbeat()
    return 5
"""
    with Supervised(script) as running:
        running.wait_for("^beating")
        assert len(running.born(2)) == 2
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        assert not [line for line in running.lines if "hangs" in line]


def test_of_one_that_died_its_words_and_connections_are_gone_and_the_restart_is_counted() -> None:
    script = """
import mmap
def WORK(worker):
    if worker.number == 0:
        while not list(worker.failures()):
            worker.heartbeat()
            time.sleep(0.01)
        say("heard", *worker.failures(), worker.held_by_others())
        while list(worker.failures()) or worker.held_by_others():
            worker.heartbeat()
            time.sleep(0.01)
        say("gone")
        def restarts():
            found = [pair for segment in worker.shared_memory.segments() for pair in segment.read()]
            return [numbers for name, numbers in found if name == '["mixer_worker_restarts"]']
        while restarts() == [[0.0]]:  # its words go first
            worker.heartbeat()
            time.sleep(0.01)
        say("restarts", restarts())
        return until_told(worker)
    worker.hold(9)
    worker.report_failure("I am ill.")
    while True:
        worker.heartbeat()
        time.sleep(0.01)
supervisor._PAUSE_S = 1000.0
"""
    with Supervised(script) as running:
        pids = dict(running.born(2))
        running.wait_for(r"^heard \(1, 'I am ill.'\) \[9\]")
        os.kill(pids[1], signal.SIGKILL)
        running.wait_for("^gone")
        running.wait_for(r"^restarts \[\[1\.0\]\]")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_what_one_that_died_had_of_what_they_share_is_free_before_it_is_replaced() -> None:
    script = """
def WORK(worker):
    quotas = [worker.quota(what, 10) for what in ("images", "background", "upload_bytes", "decode_bytes")]
    if worker.number:
        for quota in quotas:
            quota.try_take(9)
        worker.hold(7)
        worker.opens(3)
        worker.heartbeat()
        sleep_forever()
    quotas[0].try_take(1)
    while [quota.taken for quota in quotas] + [worker.held_by_all(), worker.opened_by_all()] != [10, 9, 9, 9, 7, 3]:
        time.sleep(0.01)
    say("all is taken")
    while [quota.taken for quota in quotas] + [worker.held_by_all(), worker.opened_by_all()] != [1, 0, 0, 0, 0, 0]:
        time.sleep(0.01)
    say("its own is left")
    return until_told(worker)
supervisor._PAUSE_S = 1000.0
"""
    with Supervised(script) as running:
        pids = dict(running.born(2))
        running.wait_for("^all is taken")
        os.kill(pids[1], signal.SIGKILL)
        running.wait_for("^its own is left")
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


# --- started in vain ---


@pytest.mark.parametrize("count", [0, -1])
def test_no_workers_at_all_are_refused(count: int) -> None:
    with Supervised(f"COUNT = {count}\nWORK = until_told") as running:
        assert running.exit_code() == 1
        said = f"mixer: The workers to start are {count}; expected at least 1, as app.server.topology chooses for 0.\n"
        assert said in running.lines


def test_one_that_cannot_start_ends_all_with_its_exit_code_and_one_line() -> None:
    script = """
def WORK(worker):
    raise BadSettings("The option is 3; expected 4.")
"""
    with Supervised(script) as running:
        assert running.exit_code() == 2
        said = [line for line in running.lines if not re.match(BORN, line)]
        assert said == ["mixer: The option is 3; expected 4.\n", "signals held afterwards: []\n"]


def test_those_that_could_start_are_told_to_stop_then() -> None:
    script = """
def WORK(worker):
    if worker.number:
        return until_told(worker)
    while not worker.held_by_others():
        time.sleep(0.01)
    raise BadSettings("The option is 3; expected 4.")
"""
    with Supervised(script) as running:
        assert running.exit_code() == 2
        assert "mixer: The option is 3; expected 4.\n" in running.lines
        assert not any(Path(f"/proc/{pid}").exists() for _, pid in running.born(2))


@pytest.mark.parametrize(
    ("work", "code", "words"),
    [("1 / 0", 1, "ZeroDivisionError"), ("sys.exit(3)", 3, None), ("sys.exit('words')", 1, None)],
)
def test_one_that_fails_to_start_otherwise_ends_all_too(work: str, code: int, words: str | None) -> None:
    with Supervised(f"COUNT = 1\nWORK = lambda worker: {work}") as running:
        assert running.exit_code() == code
        assert any("mixer.workers worker 0 failed" in line for line in running.lines) == (words is not None)
        assert any(words in line for line in running.lines if words) == (words is not None)
        assert not [line for line in running.lines if "replaced" in line]


REPLACED = """
import tempfile
marks = tempfile.mkdtemp()
supervisor._PAUSE_S = 0.1
def ever_again(worker, mark="born"):
    path = os.path.join(marks, mark + str(worker.number))
    again = os.path.exists(path)
    open(path, "w").close()
    return again
def hear(worker):
    before = None
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    say("beating")
    while not told:
        worker.heartbeat()
        heard = list(worker.failures())
        segment = worker.shared_memory.segment(COUNT)
        heard.append(segment.numbers[segment.offset_of('["mixer_workers_down"]')])
        if heard != before:
            say("heard", heard)
        before = heard
        time.sleep(0.02)
    return 0
"""


def test_a_replacement_that_cannot_start_is_told_with_its_words_until_it_can() -> None:
    script = f"""{REPLACED}
def WORK(worker):
    if worker.number == 0:
        return hear(worker)
    if ever_again(worker) and not ever_again(worker, "failed"):
        raise BadSettings("The option is 3; expected 4.")
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^beating", 2)
        running.wait_for(r"^heard \[0\.0\]")
        os.kill(dict(running.born(2))[1], signal.SIGKILL)
        words = r"It cannot start again: The option is 3; expected 4\."
        running.wait_for(rf"^heard \[\(1, '{words}'\), 1\.0\]")
        running.wait_for(rf"mixer\.workers worker 1: {words}")
        running.wait_for("^beating", 3)
        running.wait_for(r"^heard \[0\.0\]", 2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_one_that_is_killed_once_or_twice_is_not_told_of_and_one_that_always_is_gets_told() -> None:
    script = f"""{REPLACED}
def WORK(worker):
    if worker.number == 0:
        return hear(worker)
    worker.heartbeat()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with Supervised(script) as running:
        running.wait_for(r"^heard \[\(1, 'It was ended by SIGKILL soon after its start, 3 times in a row\.'\)")
        assert len(running.born(3)) >= 4
        assert not [line for line in running.lines if line.startswith("heard") and re.search("[12] times", line)]
        running.signal(signal.SIGTERM)
        assert running.exit_code() in (0, signal.SIGKILL)


def test_a_replacement_that_takes_much_longer_to_start_than_the_first_is_told_of_until_it_works() -> None:
    script = f"""{REPLACED}
restarts._LATE_S, supervisor._TICK_S = 0.4, 0.05
def WORK(worker):
    if worker.number == 0:
        return hear(worker)
    if ever_again(worker):
        while not os.path.exists(os.path.join(marks, "go on")):
            time.sleep(0.01)
    else:
        say("marks", marks)
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^beating", 2)
        running.wait_for(r"^heard \[0\.0\]")
        (marks,) = running.wait_for(r"^marks (\S+)")
        os.kill(dict(running.born(2))[1], signal.SIGKILL)
        running.wait_for(r"^heard \[\(1, 'It has not started within \d+ s\.'\), 1\.0\]")
        (Path(marks) / "go on").touch()
        running.wait_for(r"^heard \[0\.0\]", 2)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_a_replacement_that_hangs_in_its_start_is_not_waited_for_as_long_as_a_first_one() -> None:
    script = f"""{REPLACED}
restarts._START_AGAIN_S, restarts._TIMES_AS_LONG, supervisor._TICK_S = 0.5, 1, 0.05
def WORK(worker):
    if worker.number == 1 and ever_again(worker) and not ever_again(worker, "hung"):
        sleep_forever()
    return until_told(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^beating", 2)
        os.kill(dict(running.born(2))[1], signal.SIGKILL)
        running.wait_for(r"worker 1 \(process \d+\) hangs, and is killed")
        running.wait_for("^beating", 3)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


@pytest.mark.parametrize(
    ("failing", "code", "words"),
    [
        (
            "raise BadSettings('The option is 3; expected 4.')",
            2,
            r"It cannot start again: The option is 3; expected 4\.",
        ),
        ("sys.exit(7)", 7, r"It ended with exit code 7 while it started\."),
        ("1 / 0", 1, r"It ended with exit code 1 while it started\."),
        ("sleep_forever()", 9, r"It was ended by SIGKILL while it started, 2 times in a row\."),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            9,
            r"It was ended by SIGKILL while it started, 5 times in a row\.",
        ),
    ],
)
def test_where_no_worker_works_and_none_can_start_it_ends_with_the_last_ones_words(
    failing: str, code: int, words: str
) -> None:
    script = f"""{REPLACED}
supervisor._PAUSE_S, restarts._START_AGAIN_S, restarts._TIMES_AS_LONG, supervisor._TICK_S = 0.01, 3, 1, 0.05
def WORK(worker):
    if ever_again(worker):
        {failing}
    return until_told(worker)
"""
    with Supervised(script) as running:
        pids = running.beating()
        os.kill(pids[0], signal.SIGKILL)
        running.wait_for(rf"mixer\.workers worker 0: {words}")
        assert Path(f"/proc/{pids[1]}").exists()
        os.kill(pids[1], signal.SIGKILL)
        running.wait_for(rf"^mixer: No worker can start again\. Worker [01]: {words}")
        assert running.exit_code() == code


def test_one_that_cannot_be_forked_again_is_told_of_tried_again_and_does_not_end_the_others() -> None:
    script = f"""{REPLACED}
fork, forked = os.fork, []
def failing():
    forked.append(1)
    if 3 <= len(forked) <= 5:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = failing
def WORK(worker):
    return until_told(worker) if worker.number else hear(worker)
"""
    with Supervised(script) as running:
        running.wait_for("^beating", 2)
        os.kill(dict(running.born(2))[1], signal.SIGKILL)
        words = r"It cannot be forked: Resource temporarily unavailable, 3 times in a row\."
        running.wait_for(rf"^heard \[\(1, '{words}'\)")
        running.wait_for("^beating", 3)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_one_that_cannot_be_forked_at_first_ends_the_start_in_one_line() -> None:
    script = """
fork, forked = os.fork, []
def failing():
    forked.append(1)
    if len(forked) == 2:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = failing
COUNT = 3
WORK = until_told
"""
    with Supervised(script) as running:
        assert running.exit_code() == 1
        assert "mixer: Worker 1 cannot be forked: Resource temporarily unavailable.\n" in running.lines
        assert not [line for line in running.lines if "Traceback" in line or "worker 2" in line]


# --- a decoder that keeps the interpreter's lock ---

SILENT = """
from hashlib import sha256
from app.system.stalls import Stall
LIMIT_S = 0.5
def WORK(worker):
    def decode():
        block = bytes(1 << 20)
        while ENDLESS:
            sha256(block)
        gate.wait()
    gate = threading.Event()
    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    worker.decode_in([thread.native_id])
    if worker.number:
        return until_told(worker)
    worker.heartbeat()
    say("silent")
    time.sleep(1000)  # as an event loop that has no turn
def supervised(*args, **options):
    return Supervisor_(*args, **options, decode_limit_s=LIMIT_S)
Supervisor_, Supervisor = Supervisor, supervised
"""


def test_a_worker_whose_event_loop_is_silent_while_a_decode_thread_burns_too_much_is_killed() -> None:
    with Supervised("ENDLESS, HEARTBEAT_TIMEOUT_S = True, 1000\n" + SILENT) as running:
        running.wait_for("^silent")
        running.wait_for(
            r"worker 0 \(process \d+\): a picture has been decoded for [\d.]+ s of processor time, of 0\.5 s"
        )
        running.wait_for(r"worker 0 .* was ended by SIGKILL, and is replaced")
        running.wait_for("^silent", 2)
        assert not [line for line in running.lines if "worker 1 " in line and "decoded" in line]  # its loop goes round
        running.signal(signal.SIGTERM)
        running.exit_code()


def test_a_worker_that_is_silent_without_burning_anything_is_given_its_time() -> None:
    with Supervised("ENDLESS, HEARTBEAT_TIMEOUT_S = False, 3\n" + SILENT) as running:
        running.wait_for("^silent")
        running.wait_for(r"worker 0 \(process \d+\) hangs, and is killed")
        assert not [line for line in running.lines if "decoded" in line]
        running.signal(signal.SIGTERM)
        running.exit_code()


def test_a_replacement_that_cannot_start_is_tried_again_and_the_others_go_on() -> None:
    script = """
import tempfile
mark = tempfile.mktemp()
supervisor._PAUSE_S = 0.05
def WORK(worker):
    if worker.number == 0:
        return until_told(worker)
    if not os.path.exists(mark):
        open(mark, "w").close()
        return until_told(worker)
    os.unlink(mark)
    raise BadSettings("Not now.")
"""
    with Supervised(script) as running:
        pids = running.beating()
        os.kill(pids[1], signal.SIGKILL)
        running.wait_for("worker 1 .* ended with exit code 2, and is replaced")
        running.wait_for("^beating", 3)
        assert Path(f"/proc/{pids[0]}").exists()
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


# --- the end of whoever watches over them ---


def test_the_supervisors_death_ends_the_lifeline_of_all() -> None:
    script = """
def WORK(worker):
    worker.heartbeat()
    say("beating")
    say("ended", worker.number, os.read(worker.parent_pipe, 1))
"""
    with Supervised(script) as running:
        pids = running.beating()
        os.kill(pids[0], signal.SIGKILL)  # and not that of another
        running.wait_for("^beating", 3)
        assert not [line for line in running.lines if line.startswith("ended")]
        running.signal(signal.SIGKILL)
        running.wait_for("^ended . b''", 2)
