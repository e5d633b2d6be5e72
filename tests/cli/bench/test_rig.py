"""Which engines are opened to be compared, and which of them is the service's own choice."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.engine import EngineOptions, best_batch_size
from app.errors import EngineError
from cli.bench.rig import Rig, Split, set_up, splits
from tests.app.color_bundle import color_spec, write_bundle

SPEC = color_spec()


class FakeOpening:
    """Opens engines that are nothing but their options; on "auto" what a machine has."""

    def __init__(
        self, *, provider: str = "cpu", precision: str = "int8", instances: int = 4, refuses: str = ""
    ) -> None:
        self.asked: list[EngineOptions] = []
        self._machine = (provider, precision, instances)
        self._refuses = refuses

    def __call__(self, options: EngineOptions) -> Any:
        self.asked.append(options)
        provider, precision, instances = self._machine
        chosen = precision if options.precision == "auto" else options.precision
        if chosen == self._refuses:
            raise EngineError(f"{chosen} is not for this provider.")
        return SimpleNamespace(
            spec=SPEC,
            provider=provider,
            precision=chosen,
            precision_reason="auto: because",
            instances=options.instances or instances,
            run=(options, chosen),
        )


@pytest.fixture
def three(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "three", SPEC, ("fp32", "fp16", "int8"))


def rig_of(bundle: Path, opening: FakeOpening, *, precision: str = "auto", cpus: int = 4) -> Rig:
    return set_up(bundle, provider="auto", precision=precision, max_batch_size=16, cpus=cpus, open_one=opening)


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [
        (1, ["1x1"]),
        (2, ["1x1", "1x2", "2x1"]),
        (4, ["1x1", "1x4", "2x2", "4x1"]),
        (6, ["1x1", "1x6", "2x3", "3x2", "6x1"]),
        (7, ["1x1", "1x7", "7x1"]),
    ],
)
def test_cpus_are_split_evenly_between_runs_and_threads(cpus: int, expected: list[str]) -> None:
    assert [f"{split.instances}x{split.threads}" for split in splits(cpus)] == expected


def test_every_precision_is_opened_in_every_split(three: Path) -> None:
    rig = rig_of(three, FakeOpening())
    assert [(one.precision, one.split) for one in rig.opened] == [
        (precision, split) for precision in ("fp32", "fp16", "int8") for split in splits(4)
    ]


def test_every_run_is_that_of_an_engine_with_its_precision_its_threads_and_instances_enough(three: Path) -> None:
    rig = rig_of(three, FakeOpening())
    for one in rig.opened:
        run: Any = one.run
        options, precision = run
        assert precision == one.precision
        assert options.max_batch_size == 16
        if options.precision == "auto":  # the service's own, which is not opened twice
            assert one.split in (Split(4, 1), Split(1, 1))
        else:
            assert (options.provider, options.intra_op_threads) == ("cpu", one.split.threads)
            assert options.instances >= one.split.instances


def test_splits_of_equally_many_threads_share_an_engine(three: Path) -> None:
    opening = FakeOpening()
    rig_of(three, opening)
    others = [(options.precision, options.instances, options.intra_op_threads) for options in opening.asked[1:]]
    assert others == [
        ("fp32", 4, 1), ("fp32", 2, 2), ("fp32", 1, 4),
        ("fp16", 4, 1), ("fp16", 2, 2), ("fp16", 1, 4),
        ("int8", 2, 2), ("int8", 1, 4),
    ]  # fmt: skip


def test_the_choice_of_the_service_is_kept_even_where_it_is_no_even_split(three: Path) -> None:
    rig = rig_of(three, FakeOpening(instances=3))
    assert (rig.provider, rig.precision, rig.split) == ("cpu", "int8", Split(3, 1))
    assert rig.batch_size == min(16, best_batch_size("cpu", SPEC))
    assert Split(3, 1) in [one.split for one in rig.opened if one.precision == "int8"]
    (four_instances,) = [one for one in rig.opened if one.precision == "int8" and one.split == Split(4, 1)]
    run: Any = four_instances.run
    assert run[0].instances == 4, "the service's own engine has only three"


def test_the_services_largest_batch_is_no_larger_than_what_is_measured(three: Path) -> None:
    rig = set_up(three, provider="auto", precision="auto", max_batch_size=2, cpus=4, open_one=FakeOpening())
    assert rig.batch_size == 2


def test_one_precision_where_one_is_asked_for(three: Path) -> None:
    rig = rig_of(three, FakeOpening(), precision="fp32")
    assert {one.precision for one in rig.opened} == {"fp32"}
    assert rig.precision == "fp32"


def test_a_gpu_runs_its_own_instances_and_no_other_split(three: Path) -> None:
    rig = rig_of(three, FakeOpening(provider="cuda", precision="fp16", instances=2))
    assert [(one.precision, one.split) for one in rig.opened] == [
        (precision, Split(2, 1)) for precision in ("fp32", "fp16", "int8")
    ]
    assert rig.at_work(4) == [one for one in rig.opened if one.precision == "fp16"]


def test_a_precision_that_a_provider_refuses_is_told_and_left_out(three: Path) -> None:
    rig = rig_of(three, FakeOpening(provider="cuda", precision="fp16", instances=2, refuses="int8"))
    assert [one.precision for one in rig.opened] == ["fp32", "fp16"]
    assert rig.refused == {"int8": "int8 is not for this provider."}


def test_what_the_service_would_not_start_with_is_an_error(three: Path) -> None:
    with pytest.raises(EngineError, match="int8 is not for this provider"):
        rig_of(three, FakeOpening(refuses="int8"))


def test_a_split_that_the_service_precision_does_not_open_in_is_an_error(three: Path) -> None:
    opening = FakeOpening()

    def only_the_service(options: EngineOptions) -> Any:
        if options.precision == "int8":
            raise EngineError("no room for another one.")
        return opening(options)

    with pytest.raises(EngineError, match="no room"):
        set_up(three, provider="cpu", precision="auto", max_batch_size=16, cpus=4, open_one=only_the_service)


def test_at_work_are_the_splits_of_the_service_precision_that_leave_no_cpu_idle(three: Path) -> None:
    at_work = rig_of(three, FakeOpening()).at_work(4)
    assert [(one.precision, one.split) for one in at_work] == [
        ("int8", Split(1, 4)), ("int8", Split(2, 2)), ("int8", Split(4, 1)),
    ]  # fmt: skip


def test_the_choice_of_the_service_is_at_work_in_any_case(three: Path) -> None:
    assert Split(3, 1) in [one.split for one in rig_of(three, FakeOpening(instances=3)).at_work(4)]


def test_a_single_file_goes_by_the_precision_it_states(tmp_path: Path) -> None:
    write_bundle(tmp_path, SPEC, ("int8",))
    (tmp_path / "int8.onnx").rename(tmp_path / "mine.onnx")
    rig = set_up(tmp_path / "mine.onnx", provider="cpu", precision="auto", max_batch_size=2, cpus=2)
    assert {one.precision for one in rig.opened} == {rig.precision} == {"int8"}
    assert rig.split in [one.split for one in rig.opened]
