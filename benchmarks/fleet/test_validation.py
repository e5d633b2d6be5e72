"""What is measured becomes parameters, and what does not agree is named."""

import json
import subprocess
import sys

import pytest

from benchmarks.fleet import measuring, one_machine, tables, validation
from benchmarks.fleet.__main__ import main
from benchmarks.fleet.cases import like_a_service
from benchmarks.fleet.measuring import Bare
from benchmarks.fleet.observed import Figures, Load
from benchmarks.fleet.parameters import COMMITTED, read
from benchmarks.fleet.threads import Used
from benchmarks.fleet.validation import Pair
from benchmarks.serving.environments import ROOT
from tests.app.color_bundle import color_spec, write_bundle
from tests.pace import slowness_at_first

_MACHINE = {"max_batch_size": 8, "cpus": 2, "ready_s": 2.0, "drain_s": 0.2, "circumstances": {}}
_PARAMETERS = like_a_service(cpus=2, workers=2, client_s=0.00005, together=0.9)


def _load(loop: float, runs: float, answered: int, batch: float, away: int = 0) -> Load:
    return Load(Figures(1, 1, 1, 0), Used(loop, runs), 0.1, answered, away, batch)


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


def test_medians_are_taken_number_by_number():
    found = measuring.medians([like_a_service(image_s=each, decode_s=(each, 2 * each)) for each in (1.0, 5.0, 2.0)])
    assert found.image_s == 2.0
    assert found.decode_s == (2.0, 4.0)


def test_what_differs_by_more_than_15_percent_is_named_and_what_does_not_is_not():
    near = Pair("near", Figures(100, 10, 20, 0.30), Figures(114, 9, 22, 0.31))
    far = Pair("far", Figures(100, 10, 20, 0.30), Figures(116, 9, 40, 0.40))
    assert validation.outside([near]) == []
    assert [line.split(" is ")[0] for line in validation.outside([far])] == [
        "far: rate_s",
        "far: p99_ms",
        "far: refused",
    ]


def test_the_table_marks_it():
    text = validation.table([Pair("far", Figures(100, 10, 20, 0.3), Figures(116, 9, 20, 0.3))])
    assert "| far | 100.0, 116.0 | **1.16** | 10.0, 9.0 | 0.90 |" in text


def test_the_spread_is_half_of_the_range():
    rounds = tuple(Figures(rate, 10, 20, 0.3) for rate in (90, 100, 120))
    assert Pair("", rounds[1], rounds[1], rounds).spread("rate_s") == pytest.approx(0.15)


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
    flags = ["--rounds", "1", "--seconds", "0.4", "--bundle", str(bundle), "--out", str(tmp_path / "out")]
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
    pairs = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert [pair["name"] for pair in pairs][:3] == ["closed, 1", "closed, 8", "closed, 32"]
    assert all(pair["measured"]["rate_s"] > 0 and pair["simulated"]["rate_s"] > 0 for pair in pairs[:3])
