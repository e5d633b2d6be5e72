"""Each warning is told with the picture that its thread reads."""

import logging
import threading
import warnings
from pathlib import Path

import pytest

from model.data.pillow_warnings import collected_warnings, silenced


def test_warnings_and_log_lines_are_told_with_their_picture_and_go_nowhere_else(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with collected_warnings() as collected:
        for name in ("b.png", "a.png"):
            with collected.reading(Path(name)):
                warnings.warn(f"odd\n {name}", stacklevel=1)
                logging.getLogger("PIL.TiffImagePlugin").error("and more")
        with collected.reading(Path("c.tif")):
            logging.getLogger("PIL.TiffImagePlugin").warning("a tag of %d bytes", 7)
    assert collected.lines() == [
        "warning: a.png: odd a.png",
        "warning: b.png: odd b.png",
        "warning: c.tif: a tag of 7 bytes",
    ]
    assert (caplog.records, capfd.readouterr().err) == ([], "")


def test_threads_do_not_take_each_others_warnings() -> None:
    both_read = threading.Barrier(2)

    def read(name: str) -> None:
        with collected.reading(Path(name)):
            both_read.wait(timeout=60)
            warnings.warn(f"of {name}", stacklevel=1)
            both_read.wait(timeout=60)

    with collected_warnings() as collected:
        threads = [threading.Thread(target=read, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert collected.lines() == ["warning: a: of a", "warning: b: of b"]


def test_afterwards_all_is_as_it_was() -> None:
    log = logging.getLogger("PIL")
    before = (list(log.handlers), log.propagate, warnings.showwarning)
    with collected_warnings(), pytest.raises(ValueError, match="broken"):
        raise ValueError("broken")
    assert (list(log.handlers), log.propagate, warnings.showwarning) == before


def test_inside_silenced_pillow_says_nothing_and_others_do(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with silenced():
        warnings.warn_explicit("odd", UserWarning, "Image.py", 1, module="PIL.Image")
        logging.getLogger("PIL.TiffImagePlugin").error("and more")
    assert caplog.records == []
    assert not recwarn.list
    logging.getLogger("PIL.TiffImagePlugin").error("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]
    with silenced(), pytest.warns(UserWarning, match="of another"):
        warnings.warn_explicit("of another", UserWarning, "other.py", 1, module="other")
