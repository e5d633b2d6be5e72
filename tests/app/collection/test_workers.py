"""Two worker processes keep pictures in one folder, under one limit, and each takes labels for those of the other."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.collection.folder import Folder, FolderLimits
from tests.app.color_bundle import BLUE, image
from tests.app.fakes import samples_of
from tests.app.servers import PATIENCE_S, Server, free_port, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]
LIMIT, ASKED = 25, 40


@pytest.fixture
def served(bundle: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    flags = ["--port", str(port), "--bundle", str(bundle), "--instances", "1", "--workers", "2"]
    flags += ["--collect-dir", str(tmp_path / "kept"), "--collect-share", "1", "--collect-max-images", str(LIMIT)]
    with Server("-m", "cli", "serve", *flags, port=port) as server:
        server.wait_until_serving()
        yield f"http://127.0.0.1:{port}"


def test_the_limit_is_that_of_all_and_labels_find_their_picture(served: str, tmp_path: Path) -> None:
    def posted(path: str, **body: object) -> httpx.Response:  # by a connection of its own, whoever takes it
        return httpx.post(f"{served}{path}", timeout=PATIENCE_S, **body)  # type: ignore[arg-type]

    def outcomes() -> dict[str, float]:
        samples = samples_of(httpx.get(f"{served}/metrics", timeout=PATIENCE_S).text)
        return {one: samples[f'mixer_collected_total{{outcome="{one}"}}'] for one in ("kept", "dropped_limit")}

    for number in range(ASKED):
        posted("/classify", content=image(BLUE), headers={"X-Request-ID": f"id{number}"}).raise_for_status()
    until(lambda: sum(outcomes().values()) == ASKED)
    assert outcomes() == {"kept": LIMIT, "dropped_limit": ASKED - LIMIT}
    folder = Folder(tmp_path / "kept", FolderLimits(LIMIT, 1 << 20, 0))
    kept = [one.record.request_id for one in folder.pictures()]
    assert len(kept) == LIMIT
    for request_id in kept:
        said = posted("/feedback", json={"request_id": request_id, "label": "blue"})
        assert said.json()["right"] is True
    assert [one.label for one in folder.pictures()] == ["blue"] * LIMIT
