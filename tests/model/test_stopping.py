import os
import signal
import subprocess
import sys
import threading

import pytest

from model.stopping import StopNow, stop_signals

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_with_nothing_to_wait_for_ends_at_once_with_its_exit_code(number: signal.Signals) -> None:
    with stop_signals() as signals, pytest.raises(StopNow):
        os.kill(os.getpid(), number)
    assert signals.exit_code == 128 + number


@pytest.mark.parametrize("number", NUMBERS)
def test_while_waiting_the_first_signal_is_noted_and_the_second_ends_at_once(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with stop_signals() as signals, signals.waiting():
        assert not signals.came()
        os.kill(os.getpid(), number)
        assert signals.came()
        assert "once more: at once" in capfd.readouterr().err
        with pytest.raises(StopNow):
            os.kill(os.getpid(), number)


def test_afterwards_signals_are_handled_as_before() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with stop_signals():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_another_thread_hears_none() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def ask() -> None:
        with stop_signals() as signals:
            seen.append((signals.came(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.process
def test_signals_are_listened_to_before_torch_is_loaded() -> None:
    code = "import sys, model.stopping; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
