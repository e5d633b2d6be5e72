"""Types that are generated from the OpenAPI document compile in TypeScript, and a misspelt field does not."""

import subprocess
from pathlib import Path

import pytest

from tests.app.servers import PATIENCE_S
from tests.clients.conftest import Asked

pytestmark = pytest.mark.process

CLIENT = """
import type { paths } from "./api";
type Answer = paths["/classify"]["post"]["responses"][200]["content"]["application/json"];
type Scores = paths["/hf"]["post"]["responses"][200]["content"]["application/json"];
export const best = (answer: Answer): [string, number] => [
  answer.predictions[0].label, answer.predictions[0].FIELD];
export const first = (scores: Scores): string | undefined => scores[0].label;
"""


@pytest.fixture
def generated(service: Asked, node: tuple[str, Path], tmp_path: Path) -> Path:
    """A folder with api.d.ts."""
    ran(node, "openapi-typescript/bin/cli.js", f"http://{service.http}/openapi.json", "-o", str(tmp_path / "api.d.ts"))
    return tmp_path


@pytest.mark.timeout(240)
def test_the_types_compile_with_a_client_that_uses_them(node: tuple[str, Path], generated: Path):
    assert compiled(node, generated, "probability") == ""


@pytest.mark.timeout(240)
def test_a_field_that_is_not_in_the_document_does_not_compile(node: tuple[str, Path], generated: Path):
    assert "Property 'score' does not exist" in compiled(node, generated, "score")


def compiled(node: tuple[str, Path], folder: Path, field: str) -> str:
    """What the compiler has to say."""
    (folder / "client.ts").write_text(CLIENT.replace("FIELD", field))
    strict = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    return ran(node, "typescript/bin/tsc", *strict, str(folder / "client.ts"), expected=None)


def ran(node: tuple[str, Path], script: str, *arguments: str, expected: int | None = 0) -> str:
    program, packages = node
    command = [program, str(packages / "node_modules" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)
    assert expected is None or done.returncode == expected, done.stdout + done.stderr
    return done.stdout
