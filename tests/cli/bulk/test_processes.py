"""Processes with the model: they answer as one does, and end with the one that started them."""

import os
import signal
from pathlib import Path

import pytest

from app.errors import BadSettings
from app.settings import Settings
from cli.bulk.entries import Ready
from cli.bulk.labeler import Task
from cli.bulk.outcomes import Labelled
from cli.bulk.processes import ProcessDied, answering
from tests.app.color_bundle import GREEN, RED, image
from tests.app.servers import until

CLASSIFY = Task(embeds=False, asked={"top_k": 1})

pytestmark = pytest.mark.process


def children() -> set[int]:
    """Processes of this one that have the model."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for one in found for pid in one.read_text().split()}
    return {pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_each_channel_of_each_process_answers_and_all_end_with_the_context(bundle: Path) -> None:
    settings = Settings(bundle=bundle, workers=2, decode_threads=1, instances=1)
    before = children()
    with answering(settings, CLASSIFY) as found:
        assert len(found.answers) == 4
        assert found.model["name"] == "colours"
        for answer in found.answers:
            red, green = answer([Ready("a", image(RED)), Ready("b", image(GREEN))])
            assert isinstance(red, Labelled)
            assert isinstance(green, Labelled)
            assert [one.predictions[0]["label"] for one in (red, green)] == ["red", "green"]
        assert len(children() - before) == 2
    assert children() <= before


def test_what_stops_the_model_from_opening_is_raised_here(bundle: Path) -> None:
    settings = Settings(bundle=bundle, workers=2)
    with pytest.raises(BadSettings, match="top_k is 9"), answering(settings, Task(embeds=False, asked={"top_k": 9})):
        pass


def test_a_process_that_dies_is_an_error_and_no_wait(bundle: Path) -> None:
    before = children()
    with answering(Settings(bundle=bundle, workers=2), CLASSIFY) as found:
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not children() - before)
        for answer in found.answers:
            with pytest.raises(ProcessDied, match="has ended by itself"):
                answer([Ready("a", image(RED))])


def test_a_stop_signal_for_the_whole_group_is_for_the_process_that_started_them(bundle: Path) -> None:
    before = children()
    with answering(Settings(bundle=bundle, workers=2), CLASSIFY) as found:
        for pid in children() - before:
            os.kill(pid, signal.SIGTERM)
        for answer in found.answers:
            assert len(answer([Ready("a", image(RED))])) == 1
    assert children() <= before
