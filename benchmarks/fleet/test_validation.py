"""What is measured becomes parameters, and what does not agree is named."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fleet import measured, measuring, one_machine, tables, validation
from benchmarks.fleet.__main__ import main
from benchmarks.fleet.cases import like_a_service
from benchmarks.fleet.measuring import Bare
from benchmarks.fleet.observed import Figures, Load, together
from benchmarks.fleet.parameters import COMMITTED, read
from benchmarks.fleet.threads import Used
from benchmarks.serving.environments import ROOT
from tests.app.color_bundle import color_spec, write_bundle
from tests.pace import slowness_at_first

_MACHINE = {"max_batch_size": 8, "cpus": 2, "ready_s": 2.0, "drain_s": 0.2, "circumstances": {}}
_PARAMETERS = like_a_service(cpus=2, workers=2, client_s=0.00005, together=0.9)


def _load(loop: float, runs: float, answered: int, batch: float, away: int = 0) -> Load:
    return Load(Figures(1, 1, 1, 0), Used(loop, runs), 0.1, answered, away, batch)


def test_bare_work_is_told_apart_though_the_machine_is_now_fast_and_now_slow():
    sizes, speeds = [1, 4, 8], np.linspace(0.6, 1.4, 41)[:, np.newaxis]
    true = np.array([[0.002 + 0.005 * size for size in sizes] + [0.001, 0.003]])
    found = measuring.bare_of(sizes, true / speeds)
    assert (found.run_s / found.image_s, found.image_s) == pytest.approx((0.4, 0.005))
    assert found.decode_s == pytest.approx((0.001, 0.003))
    assert found.spread == pytest.approx(0)


def test_each_work_is_done_once_a_lap():
    done = []
    found = measuring.laps([lambda: done.append("run"), lambda: done.append("decode")], seconds=0)
    assert done == ["run", "decode"] * 4
    assert found.shape == (3, 2)


def test_parameters_are_what_the_threads_took_for_each_request():
    found = measuring.parameters(
        Bare(0.001, 0.003, (0.001, 0.003), 0.05),
        alone=_load(loop=0.16, runs=1.2, answered=100, batch=1),
        many=_load(loop=0.2, runs=1.375, answered=100, batch=4),
        beyond=_load(loop=0.3, runs=0, answered=50, batch=4, away=1000), **_MACHINE,
    )  # fmt: skip
    assert (found.run_s, found.image_s) == pytest.approx((0.002, 0.006))  # bare times, as slow as the service's threads
    assert found.decode_s == pytest.approx((0.002, 0.006))
    assert found.together == pytest.approx((0.002 / 4 + 0.006 + 0.004) / 0.01375)
    assert found.accept_s + found.answer_s == pytest.approx(0.002 * found.together)
    assert found.refuse_s == pytest.approx((0.3 - 50 * 0.002) * found.together / 1000)


def test_a_client_that_is_alone_wakes_up_for_each_request():
    alone, many = (
        Load(Figures(1, 1, 1, 0), Used(0.2, 1.0), client_s, 100, 0, batch) for client_s, batch in ((0.03, 1), (0.01, 4))
    )
    found = measuring.parameters(
        Bare(0.001, 0.003, (0.001,), 0.0), alone, many, _load(0.3, 0, 50, 4, away=1000), **_MACHINE
    )
    assert found.client_s == pytest.approx(0.00005 * found.together)
    assert found.client_wake_s == pytest.approx(0.0003 - 0.0001 * found.together)


def test_where_many_cost_less_than_one_a_run_alone_is_what_costs_more_and_no_cpu_is_slower():
    found = measuring.parameters(
        Bare(0.0, 0.004, (0.001,), 0.05), alone=_load(0.16, 1.2, answered=100, batch=1),
        many=_load(0.2, 0.7, answered=100, batch=4), beyond=_load(0.3, 0, 50, 4, away=1000), **_MACHINE,
    )  # fmt: skip
    assert found.together == 1.0
    (decode_s,) = found.decode_s
    assert found.run_s + found.image_s + decode_s == pytest.approx(0.012)
    assert found.run_s / 4 + found.image_s + decode_s == pytest.approx(0.007)
    assert found.image_s == pytest.approx(4 * decode_s)  # as of bare work


def test_a_service_that_answers_nothing_gives_no_parameters():
    nothing = _load(0.1, 0.2, 0, 1)
    with pytest.raises(ValueError, match="No request was answered"):
        measuring.parameters(Bare(0.001, 0.003, (0.001,), 0.0), nothing, nothing, nothing, **_MACHINE)


def test_bare_work_of_rounds_on_faster_and_slower_cpus_is_one():
    found = measuring.middle_bare(
        [Bare(0.002 / speed, 0.005 / speed, (0.001 / speed, 0.003 / speed), 0.05) for speed in (1.0, 0.5, 1.7)]
    )
    assert (found.run_s, found.image_s, found.spread) == pytest.approx((0.002, 0.005, 0.05))
    assert found.decode_s == pytest.approx((0.001, 0.003))


def test_a_text_takes_its_place_in_a_page_and_a_page_without_that_place_is_an_error():
    page = "a\n<!-- burst -->\nold\n<!-- /burst -->\nz\n"
    assert tables.filled(page, "burst", "new\n") == "a\n<!-- burst -->\n\nnew\n\n<!-- /burst -->\nz\n"
    with pytest.raises(ValueError, match="expected both"):
        tables.filled(page, "day", "new")


def test_a_closed_loop_of_one_takes_as_long_as_its_parts():
    window = one_machine.closed_loop(like_a_service(client_s=0.0, run_spread=0.0, decode_s=(0.001,)), 1, 2.0, 0)
    parts_s = 0.001 + 0.001 + 0.003 + 0.0004 + 2 * 0.00005
    assert len(window.heard) == pytest.approx(2.0 / parts_s, rel=0.01)


def test_many_connections_reach_the_capacity_less_what_the_client_takes():
    window = one_machine.closed_loop(_PARAMETERS, 64, 3.0, 0)
    each_s = _PARAMETERS.request_s + 2 * _PARAMETERS.client_s
    assert len(window.heard) / 3 == pytest.approx(2 * 0.9 / each_s, rel=0.05)


def test_an_open_loop_below_the_capacity_is_answered_whole_and_beyond_it_in_time():
    below, beyond = (one_machine.open_loop(_PARAMETERS, rate, 4.0, 1, 0.25) for rate in (150, 800))
    assert validation.figures_of(below, is_open=True).refused == 0
    found = validation.figures_of(beyond, is_open=True)
    assert found.refused > 0.4
    assert found.p99_ms < 260
    assert found.retry_after_s >= 1


def test_requests_that_were_due_at_known_moments_are_due_then_in_the_simulation():
    due = (0.2, 1.0, 1.5, 1.501, 2.9, 3.4)
    window = one_machine.open_loop(_PARAMETERS, 0.0, 2.0, 0, 0.25, due=due)
    assert [request.due for request in window.due] == [1.0, 1.5, 1.501, 2.9]


def test_an_open_loop_s_client_that_sleeps_sends_up_to_a_millisecond_late():
    """As its epoll rounds: alone, such requests take half a millisecond more than those of a closed loop."""
    parameters = like_a_service(run_spread=0.0, decode_s=(0.001,))
    due = tuple(1.0 + number / 50 for number in range(100))
    late = [one.sent - one.due for one in one_machine.open_loop(parameters, 0.0, 2.0, 0, 0.25, due=due).due]
    at_once = parameters.client_s + parameters.client_wake_s
    assert at_once <= min(late) < at_once + 0.0002
    assert at_once + 0.0008 < max(late) <= at_once + 0.001
    assert sum(late) / len(late) == pytest.approx(at_once + 0.0005, abs=0.0001)


def test_on_faster_cpus_the_same_work_takes_less_and_a_closed_loop_answers_as_much_more():
    slow, fast = (validation.reference_rate_s(_PARAMETERS.on_cpus_of(speed)) for speed in (1.0, 2.0))
    assert fast == pytest.approx(2 * slow, rel=0.01)


def _slow_hour(speed: float, around_alone: float) -> measured.Machine:
    """A round on CPUs of that speed, in which they had another while one connection was measured."""

    def reference(now: float) -> Load:
        return Load(Figures(200 * now, 1, 1, 0), Used(0.2 / now, 1.4 / now), 0.1 / now, 100, 0, 8, (), 200 * now)

    alone = Load(Figures(1, 1, 1, 0), Used(0.1 / around_alone, 0.9 / around_alone), 0.05 / around_alone, 100, 0, 1)
    eight = Load(Figures(150 * speed, 40 / speed, 60, 0), Used(0.2, 1.2), 0.1, 100, 0, 4)
    open_due = tuple(number / 100 for number in range(400))
    opened = Load(Figures(100, 12, 30, 0), Used(0.3, 0.5), 0.1, 50, 100, 2, open_due)
    loads = {
        measured.ALONE: (1, alone),
        **{measured.closed_name(count): (count, eight) for count in measured.CLOSED},
        **{measured.open_name(times): (100.0, opened) for times in (*measured.OPEN, measured.BEYOND)},
    }
    references = tuple(reference(around_alone if number < 2 else speed) for number in range(len(loads) + 1))
    one = measured.Round(Bare(0.001, 0.006, (0.002,), 0.05), loads, references, (((2.0, 4.0), (3.0, 3.0)),), 0.0001)
    return measured.Machine({}, 8, 2, 2.0, 0.2, 1.0, 0.25, (one,))


def test_what_one_connection_took_does_not_depend_on_how_fast_the_cpus_were_then():
    """Otherwise a machine that slows down after it has CPUs that seem slower together than alone."""
    then = validation.parameters_of(_slow_hour(1.0, around_alone=1.3))
    always = validation.parameters_of(_slow_hour(1.0, around_alone=1.0))
    work_s = [one.run_s + one.image_s + one.decode_s[0] for one in (then, always)]
    (one,) = _slow_hour(1.0, around_alone=1.3).rounds
    slower = together(one.references).request_s / together(one.around(measured.closed_name(32))).request_s
    assert work_s[0] / work_s[1] == pytest.approx(slower, rel=0.001)
    assert then.together == pytest.approx(always.together, rel=0.001)


def test_parameters_are_of_all_rounds_as_one_and_not_of_slices_in_which_the_speed_changed():
    """Rounds that differ by chance are worth their mean; one between two speeds is worth nothing where others are."""

    def rounds(*each: tuple[float, float]) -> measured.Machine:
        machine = _slow_hour(1.0, around_alone=1.0)
        (one,) = machine.rounds
        found = []
        for runs_s, after in each:
            alone = replace(one.load(measured.ALONE), used=Used(0.1, runs_s))
            references = (one.references[0], replace(one.references[1], even_rate_s=after), *one.references[2:])
            found.append(replace(one, loads={**one.loads, measured.ALONE: (1, alone)}, references=references))
        return replace(machine, rounds=tuple(found))

    calm = validation.parameters_of(rounds((1.6, 200.0)))
    assert validation.parameters_of(rounds((1.5, 200.0), (1.7, 200.0))).run_s == pytest.approx(calm.run_s)
    assert validation.parameters_of(rounds((1.6, 200.0), (2.6, 260.0))).run_s == pytest.approx(calm.run_s)
    assert validation.parameters_of(rounds((1.6, 260.0))).run_s == pytest.approx(calm.run_s)  # no steady one


def test_a_slice_is_simulated_as_fast_as_lets_a_reference_answer_what_those_around_it_did():
    own = validation.parameters_of(machine := _slow_hour(1.0, around_alone=1.3))
    _, pairs, everything = validation.compare(machine)
    found = {pair.name: pair for pair in everything}
    fast, slow = found["closed, 1"].slices[0], found["closed, 32"].slices[0]
    assert fast.references == (260.0, 200.0)
    assert not fast.is_steady
    assert slow.references == (200.0, 200.0)
    assert slow.simulated.rate_s == pytest.approx(200.0, rel=0.05)
    assert validation.reference_rate_s(own.on_cpus_of(200 / validation.reference_rate_s(own))) == pytest.approx(
        200, 0.01
    )
    assert [pair.steady for pair in pairs] == [0] + [1] * 6


def test_how_speeds_swing_is_told_apart_from_their_mean():
    (one,) = _slow_hour(1.0, 1.0).rounds
    assert one.swings() == ((0.667, 1.333), (1.0, 1.0))


def test_what_was_measured_is_read_as_it_was_written_and_without_references_not_at_all(tmp_path):
    machine = _slow_hour(1.0, 1.2)
    machine.write(tmp_path / "measured.json")
    assert measured.read(tmp_path / "measured.json") == machine
    (tmp_path / "old.json").write_text('{"rounds": [{"bare": {}}]}')
    with pytest.raises(ValueError, match=r"old\.json has rounds without references; expected"):
        measured.read(tmp_path / "old.json")


def test_several_runs_are_one_with_all_rounds_where_they_are_alike():
    one, other = _slow_hour(1.0, 1.2), _slow_hour(0.9, 1.0)
    found = measured.as_one([one, other])
    assert found == replace(other, rounds=(*one.rounds, *other.rounds))
    assert validation.parameters_of(found).run_s > validation.parameters_of(one).run_s
    with pytest.raises(ValueError, match=r"seconds of one run is 1\.0, of another 3\.0; expected runs that are alike"):
        measured.as_one([one, replace(other, seconds=3.0)])


def test_the_committed_parameters_are_read_as_they_were_written(tmp_path):
    parameters = read()
    parameters.write(tmp_path / "again.json")
    assert read(tmp_path / "again.json") == parameters
    assert json.loads(COMMITTED.read_text())["circumstances"]["processor"]


def test_the_command_simulates_what_is_named_and_refuses_what_it_does_not_know(tmp_path, capsys):
    like_a_service(image_s=0.05, cpus=2, workers=2).write(tmp_path / "slow.json")
    flags = ["--parameters", str(tmp_path / "slow.json"), "--out", str(tmp_path)]
    assert main(["simulate", "balancers", "retries", *flags]) == 0
    said = capsys.readouterr().out
    assert "| two random choices |" in said
    assert "| five tries, as Retry-After says |" in said
    assert (tmp_path / "fleet-retries.png").stat().st_size > 1000
    assert main(["simulate", "weather", *flags]) == 2
    assert "expected one of balancers, burst" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.heavy
def test_the_command_measures_a_real_service_and_writes_what_it_found(tmp_path):
    """Whether a toy agrees within 15 % on a machine that does other work says nothing: it may end with 0 or 1."""
    bundle = write_bundle(tmp_path / "bundle", color_spec())
    flags = [
        "--rounds",
        "1",
        "--seconds",
        "0.4",
        "--reference-seconds",
        "0.4",
        "--bundle",
        str(bundle),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fleet", "validate", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=100 * slowness_at_first(), check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert (tmp_path / "out" / "validation.md").read_text() in done.stdout
    found = read(tmp_path / "out" / "parameters.json")
    assert found.image_s + found.run_s > 0
    assert found.accept_s > 0
    assert found.ready_s > found.drain_s > 0
    assert main(["validate", "--measured", str(tmp_path / "out" / "measured.json"), "--out", str(tmp_path)]) in (0, 1)
    assert read(tmp_path / "parameters.json") == found
    assert "With all slices:" in (tmp_path / "validation.md").read_text()
    pairs = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert [pair["name"] for pair in pairs][:3] == ["closed, 1", "closed, 8", "closed, 32"]
    assert all(pair["of"] == len(pair["slices"]) == 1 for pair in pairs)
    assert all(pair["measured"]["rate_s"] > 0 and pair["simulated"]["rate_s"] > 0 for pair in pairs[:3])
