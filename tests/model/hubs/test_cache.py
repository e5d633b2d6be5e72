"""Where the cache is, and what is told of a disk that has no room."""

from pathlib import Path

from model.hubs import cache


def test_the_cache_follows_the_usual_variable() -> None:
    assert cache.cache_folder({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/mixer-serve")
    assert cache.cache_folder({"MIXER_CACHE": "/own", "XDG_CACHE_HOME": "/somewhere"}) == Path("/own")
    assert cache.cache_folder({}) == Path.home() / ".cache" / "mixer-serve"


def test_a_disk_that_fills_up_is_one_line_and_what_came_is_kept(tmp_path: Path) -> None:
    error = OSError(28, "No space left on device")
    message = cache.write_failure(tmp_path, error)
    assert message.startswith(f"{tmp_path} cannot be written: No space left on device, ")
    assert message.endswith(" MiB are free. Make room, and give the command again.")
