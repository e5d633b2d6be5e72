"""One file from a server on this machine: resumed after breaks and kills, checked as a whole, by one at a time."""

import base64
import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.hubs import transfer
from model.hubs.lock import alone_with
from model.hubs.transfer import Transfer, Unreachable
from tests.model.hubs.store_server import Store, serving

ROOT = Path(__file__).parents[3]
CONTENT = (ROOT / "tests" / "vectors" / "google_tiny.npz").read_bytes()
SHA256 = ("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def store() -> Iterator[Store]:
    with serving(CONTENT) as answering:
        yield answering


def wanted(store: Store, folder: Path, digest: tuple[str, str] | None = None) -> Transfer:
    return Transfer(f"{store.url}/file", folder / "file", digest=digest)


def ranges(store: Store) -> list[str | None]:
    return [wanted for _, wanted in store.requests]


def in_the_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_connection_that_breaks_is_taken_up_at_once_where_it_broke(store: Store, tmp_path: Path) -> None:
    store.breaks_off_after = [1000, 500]
    transfer.fetch(wanted(store, tmp_path))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert ranges(store) == [None, "bytes=1000-", "bytes=1500-"]
    assert in_the_folder(tmp_path) == ["file"]


def test_a_server_that_sends_nothing_more_is_not_asked_again_and_again(store: Store, tmp_path: Path) -> None:
    store.breaks_off_after = [1000, 0, 0, 0]
    with pytest.raises(Unreachable, match="cannot be downloaded"):
        transfer.fetch(wanted(store, tmp_path))
    assert ranges(store) == [None, "bytes=1000-"]
    assert (tmp_path / "file.part").stat().st_size == 1000, "kept for the next call"


def test_one_that_breaks_off_each_time_is_given_up(store: Store, tmp_path: Path) -> None:
    store.breaks_off_after = [10] * 9
    with pytest.raises(Unreachable):
        transfer.fetch(wanted(store, tmp_path), tries=3)
    assert len(store.requests) == 3


@pytest.mark.process
def test_what_a_killed_process_had_fetched_is_not_fetched_again(store: Store, tmp_path: Path) -> None:
    code = (
        "import os, signal; from model.hubs import transfer; from pathlib import Path;"
        f"kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done >= 1000 else None;"
        f"transfer.fetch(transfer.Transfer({store.url + '/file'!r}, Path({str(tmp_path / 'file')!r})), kill)"
    )
    store.breaks_off_after = [1000]
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -9
    beginning = (tmp_path / "file.part").stat().st_size
    transfer.fetch(wanted(store, tmp_path))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert ranges(store) == [None, f"bytes={beginning}-" if beginning else None]


@pytest.mark.parametrize("right", [True, False])
def test_what_was_downloaded_in_pieces_is_checked_as_a_whole(store: Store, tmp_path: Path, *, right: bool) -> None:
    digest = hashlib.md5(CONTENT).digest()  # noqa: S324 -- it is what that server sends
    store.headers = {"x-goog-hash": f"md5={base64.b64encode(digest).decode()}"}
    store.content, store.breaks_off_after = (CONTENT if right else CONTENT[::-1]), [1000, 1000]
    if right:
        transfer.fetch(wanted(store, tmp_path))
        assert (tmp_path / "file").read_bytes() == CONTENT
    else:
        with pytest.raises(CheckpointError, match=f"arrived with the md5 .*; expected {digest.hex()}"):
            transfer.fetch(wanted(store, tmp_path))
        assert in_the_folder(tmp_path) == [], "the next call begins anew"


def test_a_digest_that_is_known_beforehand_resumes_without_the_servers_word(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:700])
    transfer.fetch(wanted(store, tmp_path, SHA256))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert ranges(store) == ["bytes=700-"]


def test_a_beginning_of_which_nothing_is_known_is_fetched_anew(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"else")
    transfer.fetch(wanted(store, tmp_path))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert ranges(store) == [None]


def test_another_file_on_the_server_is_fetched_from_its_start(store: Store, tmp_path: Path) -> None:
    store.breaks_off_after = [1000]
    with pytest.raises(Unreachable):
        transfer.fetch(wanted(store, tmp_path), tries=1)
    store.etag, store.content = '"two"', CONTENT[::-1]
    transfer.fetch(wanted(store, tmp_path))
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(store: Store, tmp_path: Path) -> None:
    beginning = wanted(store, tmp_path)
    beginning.partial.write_bytes(CONTENT + b"more")
    beginning.validator.write_text(store.etag)
    transfer.fetch(beginning)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "lies",
    [
        pytest.param(({"ETag": '"one"', "Content-Range": f"bytes 0-{len(CONTENT) - 1}/9"}, CONTENT), id="all of it"),
        pytest.param(({"ETag": '"two"', "Content-Range": "bytes 700-709/9"}, b"of another"), id="another file"),
        pytest.param(({}, b"of what?"), id="no word"),
    ],
)
def test_an_answer_that_does_not_go_on_with_the_beginning_is_not_added_to_it(
    store: Store, tmp_path: Path, lies: tuple[dict[str, str], bytes]
) -> None:
    beginning = wanted(store, tmp_path)
    beginning.partial.write_bytes(CONTENT[:700])
    beginning.validator.write_text(store.etag)
    store.lies = lies
    transfer.fetch(beginning)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert ranges(store) == ["bytes=700-", None]


def test_a_server_that_refuses_every_range_is_asked_once_more_and_no_more(store: Store, tmp_path: Path) -> None:
    store.status = 416
    (tmp_path / "file.part").write_bytes(CONTENT[:700])
    with pytest.raises(Unreachable, match="answers 416 "):
        transfer.fetch(wanted(store, tmp_path, SHA256))
    assert len(store.requests) == 2


@pytest.mark.process
def test_a_kill_never_leaves_a_beginning_beside_the_name_of_another_file(store: Store, tmp_path: Path) -> None:
    beginning = wanted(store, tmp_path)
    beginning.partial.write_bytes(b"of another file")
    beginning.validator.write_text('"another"')
    code = (
        "import os, signal; from pathlib import Path; from model.hubs import transfer;"
        "Path.write_text = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        f"transfer.fetch(transfer.Transfer({beginning.url!r}, Path({str(beginning.path)!r})))"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -9
    assert beginning.partial.read_bytes() == b""


@pytest.mark.parametrize("headers", [{"x-goog-hash": "md5=a"}, {"ETag": '"\xe9"'}])
def test_headers_that_mean_nothing_do_no_harm(store: Store, tmp_path: Path, headers: dict[str, str]) -> None:
    store.headers, store.breaks_off_after = headers, [1000]
    transfer.fetch(wanted(store, tmp_path))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_password_of_a_mirror_is_in_no_error(store: Store, tmp_path: Path) -> None:
    store.status = 500
    address = store.url.replace("://", "://user:password@") + "/file"
    with pytest.raises(Unreachable) as caught:
        transfer.fetch(Transfer(address, tmp_path / "file"))
    assert str(caught.value).startswith(f"{store.url}/file answers 500")


def test_a_second_one_waits_and_fetches_nothing(store: Store, tmp_path: Path) -> None:
    second = wanted(store, tmp_path, SHA256)
    (tmp_path / "file.part").write_bytes(CONTENT)
    waiting = threading.Thread(target=transfer.fetch, args=(second,))
    with alone_with(second.partial):
        waiting.start()
        second.partial.rename(second.path)
    waiting.join(30)
    assert store.requests == []
    assert in_the_folder(tmp_path) == ["file"]


def test_a_disk_without_room_is_told_before_anything_is_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2 << 20, 1 << 20, 1000))
    with pytest.raises(CheckpointError, match=r" has 0 MiB free; expected 0 MiB, which http://127.*/file takes\.$"):
        transfer.fetch(wanted(store, tmp_path))
    assert in_the_folder(tmp_path) == []
