"""Each slice that was measured, simulated: with the parameters of all rounds, on CPUs as fast as they were around it.

Parameters come from the references of all rounds as one, from slices of one connection and from slices at four times
the capacity; nothing that is compared is among them. What such a slice took of the processors is put to the mean by
what its own references took, so that it does not matter when it was measured; what a run or a request takes does not
change from round to round, only how fast the machine is. A slice is then simulated on CPUs that are as fast as lets a
simulated reference answer what its two references did on average; an open one with the moments at which requests were
really due, as a queue depends on chance as much as on speed.
"""

from dataclasses import replace
from statistics import median

from benchmarks.fleet import agreement, measuring, one_machine
from benchmarks.fleet.agreement import Pair, Slice, middle
from benchmarks.fleet.measured import ALONE, BEYOND, CLOSED, MANY, OPEN, Machine, Round, closed_name, open_name
from benchmarks.fleet.observed import Figures, Load, even_rate_s, figures, together
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.request import End
from benchmarks.fleet.speeds import joined

_REFERENCE_S = 3.0  # of a simulated reference
_SIMULATIONS = 5  # of each slice, which begin at other moments of the speeds


def parameters_of(machine: Machine) -> Parameters:
    """Those of all rounds as one, on CPUs as fast as they were on average.

    What a run costs besides its images is a difference of noisy figures: of one round alone it is off by half.
    """
    references = together([each for one in machine.rounds for each in one.references])
    found = measuring.parameters(
        measuring.middle_bare([one.bare for one in machine.rounds]),
        _at_mean(machine, ALONE, references), references, _at_mean(machine, open_name(BEYOND), references),
        max_batch_size=machine.max_batch_size, cpus=machine.cpus, ready_s=machine.ready_s, drain_s=machine.drain_s,
        circumstances=machine.circumstances,
    )  # fmt: skip
    speeds = joined(one.all_speeds() for one in machine.rounds)
    idle_wake_s = median(one.idle_wake_s for one in machine.rounds)
    return replace(found, speeds=speeds, idle_wake_s=idle_wake_s, is_pinned=machine.is_pinned)


def _at_mean(machine: Machine, name: str, references: Load) -> Load:
    """A load of all rounds, had the CPUs been as fast as in these `references`; where any slice is steady, of those."""
    steady = [one for one in machine.rounds if agreement.is_steady(*(each.even_rate_s for each in one.around(name)))]
    return together(
        [
            one.load(name).on_cpus_of(together(one.around(name)).request_s / references.request_s)
            for one in steady or machine.rounds
        ]
    )


def compare(machine: Machine) -> tuple[Parameters, list[Pair], list[Pair]]:
    """The medians of the parameters; each load, measured and simulated, in steady slices; and in all."""
    found = parameters_of(machine)
    names = [closed_name(each) for each in CLOSED] + [open_name(each) for each in OPEN]
    reached_s = reference_rate_s(found)
    slices = {name: [_slice(machine, one, found, reached_s, name) for one in machine.rounds] for name in names}
    return (
        found,
        [agreement.steady(name, of_load) for name, of_load in slices.items()],
        [agreement.whole(name, of_load) for name, of_load in slices.items()],
    )


def _slice(machine: Machine, one: Round, own: Parameters, reached_s: float, name: str) -> Slice:
    """`reached_s`: by a simulated reference with the parameters `own`."""
    before, after = (load.even_rate_s for load in one.around(name))
    there = replace(own.on_cpus_of((before + after) / 2 / reached_s), speeds=one.swings())
    said = [_once(machine, there, name, *one.loads[name], seed) for seed in range(_SIMULATIONS)]
    return Slice(one.load(name).figures, middle(said), (before, after))


def reference_rate_s(parameters: Parameters) -> float:
    """What a simulated reference answers a second on CPUs that are always as fast."""
    window = one_machine.closed_loop(replace(parameters, speeds=()), MANY, _REFERENCE_S, 0)
    return even_rate_s([one.ended for one in window.heard], window.start, window.end)


def _once(machine: Machine, own: Parameters, name: str, asked: float, load: Load, seed: int) -> Figures:
    if name.startswith("open"):
        window = one_machine.open_loop(own, asked, machine.seconds, seed, machine.deadline_s, due=load.due)
        return figures_of(window, is_open=True)
    return figures_of(one_machine.closed_loop(own, int(asked), machine.seconds, seed), is_open=False)


def figures_of(window: one_machine.Window, *, is_open: bool) -> Figures:
    """As of the real service."""
    due = window.due if is_open else window.heard
    for request in due:
        request.status = request.end.value if request.end is not None else End.BROKEN.value  # as figures() asks
    return figures([one for one in due if one.end is End.ANSWERED], due, window.end - window.start)  # type: ignore[arg-type]
