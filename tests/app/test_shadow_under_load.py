"""A second model beside the first over real sockets, in two processes and under load: nobody notices."""

import http.client
import json
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import PATIENCE_S, Server, altered, until
from tests.app.test_reload_under_load import IMAGES, Load, put, reload, served, wait_for_both

pytestmark = pytest.mark.process

HANGS = """
def altered(worker, engine, create):
    service = create()
    honest = SessionRunner.run

    def run(self, patches):
        if patches[0].shape[0] == 1:  # only the shadow's pictures are one patch
            {what}
        return honest(self, patches)

    SessionRunner.run = run
    return service
"""


def outcomes(running: Server) -> Counter[str]:
    """Of the pictures that the shadow was to run."""
    found = re.findall(
        r'^mixer_shadow_images_total\{.*outcome="(\w+)".*\} (\S+)$', running.get("/metrics"), re.MULTILINE
    )
    return Counter({outcome: int(float(count)) for outcome, count in found})


def tried(running: Server) -> bool:
    return outcomes(running)["agree"] > 0


def bodies(running: Server) -> dict[str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)
    found = {}
    for label, payload in IMAGES.items():
        connection.request("POST", "/classify", payload, {"Content-Type": "image/png"})
        found[label] = connection.getresponse().read()
    connection.close()
    return found


def test_answers_are_the_same_bytes_with_a_shadow_and_without(tmp_path: Path) -> None:
    bundle, second = put(tmp_path, "colours", "1"), put(tmp_path, "second", "2")
    with served(bundle) as running:
        running.wait_until_serving()
        without = bodies(running)
    with served(bundle, "--shadow", str(second), "--shadow-share", "1") as running:
        running.wait_until_serving()
        assert bodies(running) == without
        until(lambda: bodies(running) == without and tried(running))


def test_under_load_every_answer_is_right_and_what_there_is_no_time_for_is_dropped(tmp_path: Path) -> None:
    bundle, second = put(tmp_path, "colours", "1"), put(tmp_path, "second", "2")
    flags = ("--shadow", str(second), "--shadow-share", "1", "--workers", "2", "--log-level", "warning")
    with served(bundle, *flags) as running:
        wait_for_both(running)
        with Load(running.port).going() as load:
            until(lambda: outcomes(running)["dropped"] > 100)
        assert load.wrong == []
        assert set(load.answers) == {"1"}
        until(lambda: tried(running))  # as soon as it is quiet, at the latest
        answered = load.answers["1"]
        assert outcomes(running).total() <= answered + 3
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


def test_both_models_are_exchanged_under_load_while_both_answer(tmp_path: Path) -> None:
    bundle, second = put(tmp_path, "colours", "1"), put(tmp_path, "second", "101")
    flags = ("--shadow", str(second), "--shadow-share", "0.5", "--shadow-answers", "0.5", "--workers", "2")
    with served(bundle, *flags, "--log-level", "warning") as running:
        wait_for_both(running)
        with Load(running.port).going() as load:
            for version in range(2, 7):
                put(tmp_path, "colours", str(version))
                assert reload(running) == {"colours": "swapped", "shadow second": "unchanged"}
                put(tmp_path, "second", str(100 + version))
                assert reload(running) == {"colours": "unchanged", "shadow second": "swapped"}
            until(lambda: {"6", "106"} <= set(load.answers))
        assert load.wrong == []
        assert set(load.answers) <= {str(version) for start in (1, 101) for version in range(start, start + 6)}
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0


@pytest.mark.parametrize("what", ["threading.Event().wait()", "raise RuntimeError('it fails')"])
def test_one_that_hangs_or_fails_costs_nobody_an_answer(what: str, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", color_spec())
    second = write_bundle(tmp_path / "second", color_spec(version="8", image_size=4))
    flags = ("--shadow", str(second), "--shadow-share", "1", "--request-timeout-s", "2", "--log-level", "warning")
    with altered(HANGS.format(what=what), bundle, *flags) as running:
        running.connect().close()
        with Load(running.port).going() as load:
            until(lambda: load.answers.total() > 300)
        assert load.wrong == []
        assert set(load.answers) == {"7"}
        until(lambda: outcomes(running)["failed"] > 0 or outcomes(running)["dropped"] > 100)
        assert json.loads(running.get("/health/ready"))["status"] == "ready"
        assert outcomes(running)["agree"] == 0
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
