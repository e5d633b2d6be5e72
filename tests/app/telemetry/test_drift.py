"""The last answers of all processes against the reference: shifted traffic is told from what was expected."""

import random
from collections.abc import Iterable, Mapping

import pytest

from app.system.shared_memory import SharedMemory
from app.telemetry.drift import LEAST, WINDOW, Answer, Window
from app.telemetry.metrics import Metrics
from model.reference import Reference
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import FakeSession, engine_of, means_of_colors, samples_of
from tests.app.in_process import Serve
from tests.model.test_reference import REFERENCE

ALIKE, SHIFTED = 0.1, 0.25  # as people who use this index read it


def expected(count: int, seed: int = 1) -> list[Answer]:
    """Answers that are distributed as the reference says."""
    chance = random.Random(seed)
    classes = chance.choices(range(3), REFERENCE.classes, k=count)
    probabilities = chance.choices([place / 10 + 0.05 for place in range(10)], REFERENCE.probability, k=count)
    return [(one, two, chance.uniform(0, 10)) for one, two in zip(classes, probabilities, strict=True)]


def window_of(answers: Iterable[Answer], processes: int = 1) -> Window:
    window = Window(REFERENCE, processes)
    window.answers.extend(answers)
    return window


def publish(metrics: Metrics, windows: Mapping[str, Window]) -> None:
    metrics.drift.windows = lambda: windows
    metrics.drift.publish()


def indices(metrics: Metrics) -> dict[str, float]:
    samples = samples_of(metrics.render().decode())
    return {name.split('of="')[1][:-2]: value for name, value in samples.items() if "drift" in name}


@pytest.mark.parametrize("seed", range(5))
def test_what_was_expected_stays_below_a_tenth(seed: int) -> None:
    metrics = Metrics()
    publish(metrics, {"colours": window_of(expected(WINDOW, seed))})
    assert indices(metrics).keys() == {"classes", "probability", "energy"}
    assert max(indices(metrics).values()) < ALIKE


def test_each_index_tells_of_its_own_shift() -> None:
    metrics = Metrics()
    as_expected = expected(WINDOW)
    shifted = {
        "classes": [(2, likely, energy) for _, likely, energy in as_expected],
        "probability": [(index, 0.45, energy) for index, _, energy in as_expected],
        "energy": [(index, likely, energy / 2) for index, likely, energy in as_expected],
    }
    for of, answers in shifted.items():
        publish(metrics, {"colours": window_of(answers)})
        found = indices(metrics)
        assert found.pop(of) > SHIFTED
        assert max(found.values()) < ALIKE


def test_old_answers_are_forgotten() -> None:
    metrics, window = Metrics(), window_of([(2, 0.45, 0.5)] * WINDOW)
    window.answers.extend(expected(WINDOW))
    publish(metrics, {"colours": window})
    assert max(indices(metrics).values()) < ALIKE


def test_few_answers_say_nothing_yet() -> None:
    metrics = Metrics()
    publish(metrics, {"colours": window_of(expected(LEAST - 1))})
    assert indices(metrics) == {}
    publish(metrics, {"colours": window_of(expected(LEAST))})
    assert len(indices(metrics)) == 3


def test_the_windows_of_all_processes_are_one() -> None:
    memory = SharedMemory(2)
    workers = [Metrics(memory, number) for number in range(2)]
    halves = [window_of([(0, 0.95, 0.5)] * WINDOW, 2), window_of([(2, 0.95, 9.5)] * WINDOW, 2)]
    assert [len(half.answers) for half in halves] == [WINDOW // 2] * 2
    for metrics, half in zip(workers, halves, strict=True):
        publish(metrics, {"colours": half})
    alone = Metrics()
    publish(alone, {"colours": window_of([(0, 0.95, 0.5), (2, 0.95, 9.5)] * (WINDOW // 2))})
    assert indices(workers[0]) == indices(workers[1]) == indices(alone)


def test_a_process_that_takes_over_begins_anew() -> None:
    memory = SharedMemory(1)
    publish(Metrics(memory), {"colours": window_of(expected(WINDOW))})
    successor = Metrics(memory)
    publish(successor, {"colours": window_of([])})
    assert indices(successor) == {}


def test_a_model_that_has_gone_and_one_with_other_classes_leave_nothing_behind() -> None:
    metrics = Metrics()
    publish(metrics, {"colours": window_of([(2, 0.45, 0.5)] * WINDOW)})
    two = Reference(**{**REFERENCE.model_dump(), "classes": (0.5, 0.5)})
    window = Window(two)
    window.answers.extend((index % 2, likely, energy) for index, (_, likely, energy) in enumerate(expected(WINDOW)))
    publish(metrics, {"colours": window})
    assert max(indices(metrics).values()) < ALIKE
    publish(metrics, {})
    assert indices(metrics) == {}


@pytest.mark.parametrize(("colors", "shifted"), [((RED, GREEN, BLUE), False), ((BLUE,), True)])
async def test_answers_to_clients_count(serve: Serve, colors: tuple[object, ...], shifted: bool) -> None:
    third = Reference(**{**REFERENCE.model_dump(), "classes": (1 / 3,) * 3})
    spec = color_spec(canary=None, reference=third)
    async with serve(engine_of(FakeSession(spec, means_of_colors), spec)) as service:
        model = (await service.http.get("/model")).json()
        for number in range(LEAST):
            await service.http.post("/classify", content=image(colors[number % len(colors)]))
        found = indices(service.metrics)["classes"]
    assert "reference" not in model["spec"]
    assert found > SHIFTED if shifted else found < ALIKE


async def test_a_bundle_without_a_reference_has_no_index(serve: Serve) -> None:
    async with serve() as service:
        for _ in range(LEAST):
            await service.http.post("/classify", content=image(RED))
        assert indices(service.metrics) == {}
