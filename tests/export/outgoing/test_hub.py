"""A folder comes to a repository as one commit, large files by LFS; a refusal of the hub's is one line."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from export.outgoing import hub
from model.errors import ExportError
from tests.export.outgoing.hub_server import TOKEN, WritableHub, taking

FILES = {"README.md": b"---\nlicense: mit\n---\n# Model\n", "fp32.onnx": bytes(range(256)) * 100, "charts/a.svg": b"<"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    with taking() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def upload(folder: Path, private: bool | None = None, revision: str | None = None) -> str:
    return hub.upload(folder, "shop/clothes", private=private, revision=revision, message="Push clothes")


def test_all_of_a_folder_comes_as_one_commit(server: WritableHub, folder: Path):
    assert upload(folder) == f"{server.url}/shop/clothes"
    assert server.repositories == {"shop/clothes": {"main": FILES}}
    assert server.messages == ["Push clothes"]
    assert list(server.objects.values()) == [FILES["fp32.onnx"]]  # the others are in the commit itself


def test_what_was_pushed_comes_back_as_it_was(
    server: WritableHub, folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    upload(folder, revision="v2")
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 -- after upload has said how it is to work

    cache = tmp_path_factory.mktemp("cache")
    for name, content in FILES.items():
        path = hf_hub_download("shop/clothes", name, revision="v2", cache_dir=cache, endpoint=server.url)
        assert Path(path).read_bytes() == content


def test_a_second_push_goes_into_the_same_repository(server: WritableHub, folder: Path):
    upload(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Another\n")
    upload(folder)
    assert server.repositories["shop/clothes"]["main"]["README.md"].endswith(b"# Another\n")
    assert sum(path.startswith("/storage/") for path in server.paths) == 1  # the graph is there already


def test_a_branch_is_made_where_it_is_missing(server: WritableHub, folder: Path):
    for _ in range(2):
        upload(folder, revision="v2")
    assert server.repositories["shop/clothes"] == {"main": {}, "v2": FILES}


@pytest.mark.parametrize(("private", "visibility"), [(True, "private"), (False, "public"), (None, None)])
def test_whether_it_is_private_is_said_or_left_to_the_hub(
    server: WritableHub, folder: Path, private: bool | None, visibility: str | None
):
    upload(folder, private=private)
    assert server.private == {"shop/clothes": visibility}


@pytest.mark.parametrize(
    ("where", "status", "words"),
    [
        ("/create", 401, "the hub does not know the token (401); expected one that may write, in HF_TOKEN"),
        ("/create", 403, "the token may not write there (403)"),
        ("/preupload", 403, "the token may not write there (403)"),
        ("/commit", 409, "it was changed meanwhile, or is in use (409)"),
        ("/preupload", 404, "the hub has no such place (404)"),
        ("/batch", 400, "the hub answers 400: refused in several lines"),
        ("/storage", 400, "the hub answers 400: refused in several lines"),
    ],
)
def test_a_refusal_is_one_line(server: WritableHub, folder: Path, where: str, status: int, words: str):
    server.refusals = {where: status} | ({"/api/models/shop/clothes": status} if where == "/create" else {})
    with pytest.raises(ExportError) as refused:
        upload(folder)
    assert str(refused.value).startswith(f"shop/clothes cannot be pushed to at {server.url}: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_that_the_hub_does_not_know_is_told(server: WritableHub, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ExportError, match="does not know the token") as refused:
        upload(folder)
    assert "somebody" not in str(refused.value)


def test_without_a_token_nothing_is_asked(server: WritableHub, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)  # one may be kept in the home of who runs this
    with pytest.raises(ExportError, match="without a token; expected one in HF_TOKEN"):
        upload(folder)
    assert not server.paths


def test_a_hub_that_cannot_be_reached_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        with pytest.raises(ExportError, match=r"cannot be pushed to at http://127.0.0.1:\d+: .*onnection refused"):
            upload(folder)


def test_the_password_of_a_mirror_is_not_told(server: WritableHub, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url.replace("://", "://user:password@"))
    server.refusals = {"/create": 500, "/api/models/shop/clothes": 500}
    with pytest.raises(ExportError) as refused:
        upload(folder)
    assert str(refused.value).startswith(f"shop/clothes cannot be pushed to at {server.url}: ")
    assert "password" not in str(refused.value)


def test_offline_nothing_is_tried(server: WritableHub, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 sets at its import
    with pytest.raises(ExportError, match="offline"):
        upload(folder)
    assert not server.paths
