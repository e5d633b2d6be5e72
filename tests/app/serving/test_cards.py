"""A bundle's model card: read when the bundle is, and shown beside its spec."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app import main
from app.http.prefix import Prefix
from app.serving.cards import Card, read_card
from app.settings import Settings
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.problem_answers import expect_problem

KEY = "another-key-for-operators"
MARKDOWN, JSON = "# Cölours\n", {"model_details": {"name": "colours"}}


def put_card(bundle: Path, markdown: str = MARKDOWN) -> Path:
    (bundle / "README.md").write_text(markdown, encoding="utf-8")
    (bundle / "card.json").write_text(json.dumps(JSON), encoding="utf-8")
    return bundle


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "colours", color_spec())


@asynccontextmanager
async def served(bundle: Path, **options: object) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate({"bundle": bundle, "provider": "cpu", "instances": 1, **options})
    made = main.create_service(settings)
    transport = httpx.ASGITransport(Prefix(made.app, settings.root_path, ()))
    async with (
        made.app.router.lifespan_context(made.app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


# --- the files ---


def test_a_card_is_both_files(colours: Path) -> None:
    assert read_card(colours) is None
    (colours / "README.md").write_text("by hand, for whoever looks into the folder")
    assert read_card(colours) is None
    put_card(colours)
    assert read_card(colours) == Card(MARKDOWN.encode(), json.dumps(JSON).encode())
    assert read_card(colours / "fp32.onnx") is None


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("card.json", b"{", "Expecting property name"),
        ("card.json", b"[" * 100_000, "recursion"),
        ("card.json", json.dumps(JSON).encode("utf-16"), "'utf-8' codec can't decode"),
        ("README.md", b"caf\xe9", "'utf-8' codec can't decode"),
        ("README.md", b"x" * ((1 << 20) + 1), r"README.md has more than 1048576 bytes; expected at most that."),
    ],
)
def test_what_cannot_be_shown_is_told_and_passed_over(
    name: str, content: bytes, told: str, colours: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (put_card(colours) / name).write_bytes(content)
    with caplog.at_level(logging.WARNING, "mixer.cards"):
        assert read_card(colours) is None
    assert told in caplog.text


def test_a_link_that_cannot_be_followed_is_told(colours: Path, caplog: pytest.LogCaptureFixture) -> None:
    (colours / "card.json").symlink_to("x" * 300)
    with caplog.at_level(logging.WARNING, "mixer.cards"):
        assert read_card(colours) is None
    assert "File name too long" in caplog.text


def test_a_pipe_is_not_waited_for(colours: Path) -> None:
    put_card(colours)
    (colours / "README.md").unlink()
    os.mkfifo(colours / "README.md")
    assert read_card(colours) is None


# --- over HTTP ---


async def test_the_model_says_where_its_card_is(colours: Path) -> None:
    put_card(colours)
    async with served(colours) as http:
        assert (await http.get("/model")).json()["card"] == "/model/card"
        named = (await http.get("/model?model=colours")).json()["card"]
        assert named == "/model/card?model=colours"
        answer = await http.get(named)
        assert (answer.status_code, answer.text) == (200, MARKDOWN)
        assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
        assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("Application/JSON, text/markdown;q=0.5", "application/json"),
        ("text/html, application/*; q=0.9", "application/json"),
        ("application/json;q=0.4, text/markdown", "text/markdown"),
        ("application/json, text/markdown", "text/markdown"),
        ("text/html,*/*;q=0.8", "text/markdown"),
        ("application/json;q=x", "application/json"),
        ("application/json;q=0, */*", "text/markdown"),
        ("application/json;q=\xb2", "application/json"),
        ("", "text/markdown"),
        (";;,,", "text/markdown"),
    ],
)
async def test_accept_chooses(accept: str, kind: str, colours: Path) -> None:
    put_card(colours)
    async with served(colours) as http:
        answer = await http.get("/model/card", headers={"accept": accept.encode("latin-1")})
        assert answer.headers["content-type"].partition(";")[0] == kind
        assert kind == "text/markdown" or answer.json() == JSON


async def test_of_several_the_one_that_is_asked_for(tmp_path: Path, colours: Path) -> None:
    put_card(colours)
    put_card(write_bundle(tmp_path / "grey & more", color_spec(channels=1, name="greys")), "grey")
    write_bundle(tmp_path / "bare", color_spec())
    async with served(tmp_path) as http:
        link = (await http.get("/model?model=grey%20%26%20more")).json()["card"]
        assert link == "/model/card?model=grey%20%26%20more"
        assert (await http.get(link)).text == "grey"
        assert (await http.get("/model")).json()["card"] is None
        words = "bare has no model card; expected README.md and card.json in its bundle, as mixer card writes."
        expect_problem(await http.get("/model/card"), 404, "no_card", words)
        expect_problem(await http.get("/model/card?model=red"), 404, "unknown_model")
        expect_problem(await http.get("/model/card?name=bare"), 422, "bad_parameter")


async def test_below_a_prefix_and_behind_keys(colours: Path) -> None:
    put_card(colours)
    async with served(colours, api_keys="a-key-of-sixteen-characters", root_path="/mixer") as http:
        expect_problem(await http.get("/model/card"), 401, "bad_api_key")
        headers = {"X-API-Key": "a-key-of-sixteen-characters"}
        assert (await http.get("/model", headers=headers)).json()["card"] == "/mixer/model/card"
        assert (await http.get("/model/card", headers=headers)).text == MARKDOWN


async def test_a_card_is_read_with_its_bundle_and_at_a_reload(colours: Path) -> None:
    put_card(colours)
    async with served(colours, admin_keys=KEY) as http:
        put_card(colours, "newer")
        assert (await http.get("/model/card")).text == MARKDOWN
        async with asyncio.timeout(60):
            reloaded = await http.post("/admin/reload", headers={"X-API-Key": KEY})
        assert [one["outcome"] for one in reloaded.json()["models"]] == ["unchanged"]
        assert (await http.get("/model/card")).text == "newer"
