"""The documentation says what the code does: the settings table, the file tree, the endpoints, the metrics."""

import re
from pathlib import Path

import pytest

from app.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "cli", "model", "export", "mixer_client")
SETTINGS = ROOT / "docs" / "settings.md"


def settings_table() -> str:
    """What stands between the markers of docs/settings.md; run this module to print it."""
    rows = ["| variable | default | what it is, and what follows |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        if isinstance(default, Path):
            default = default.relative_to(ROOT)
        shown = "" if default is None or "SecretStr" in str(field.annotation) else f"`{default}`"
        rows.append(f"| `{ENV_PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def test_the_settings_table_is_that_of_the_code():
    assert f"<!-- settings -->\n\n{settings_table()}\n\n<!-- /settings -->" in SETTINGS.read_text(encoding="utf-8")


def test_the_architecture_names_every_module():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| \[\S+\]\(\.\./(\S+\.py)\) ", page, re.MULTILINE))
    packages = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    modules = {path.relative_to(ROOT).as_posix() for path in packages if path.name != "__init__.py"}
    assert named == modules


def test_thirty_questions_where_something_is_have_a_path_each():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## Where is ...?\n")[1].split("\n## ")[0]
    answers = re.findall(r"^\| [^|]+ \| \[(\S+)\]\(\.\./(\S+)\) \|$", section, re.MULTILINE)
    assert len(answers) == 30
    for shown, path in answers:
        assert shown == path
        assert (ROOT / path).is_file(), f"Where is ...? leads to {path}; expected a file of the repository"


def test_every_room_has_a_paragraph():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    marks = (mark for package in PACKAGES for mark in (ROOT / package).rglob("__init__.py"))
    for room in sorted(mark.parent.relative_to(ROOT).as_posix() for mark in marks):
        section = re.split(rf"^##+ {room}/\n", page, flags=re.MULTILINE)[1].split("\n| file")[0]
        assert len(section.split()) > 25, f"{room} has {section!r}; expected what enters, leaves, and is not known"


def test_a_contributors_recipes_name_what_is_there():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipes = page.split("## A new field in an answer")[1].split("\nSecurity problems")[0]
    steps = [step for step in re.split(r"^\d+\. ", recipes, flags=re.MULTILINE) if "`" in step]
    assert len(steps) == 12
    for step in steps:
        for sentence in re.split(r"(?<=[.;])\s+", step):
            paths = re.findall(r"`([\w/]+(?:\.\w+|/))`", sentence)
            assert all((ROOT / path).exists() for path in paths), f"{paths} in CONTRIBUTING.md; expected what is there"
            modules = [(ROOT / path).read_text(encoding="utf-8") for path in paths if path.endswith(".py")]
            for name in re.findall(r"`(_?[A-Za-z]\w+)`", sentence):
                defined = re.compile(rf"(?:class|def) {name}\b|^{name}\b", re.MULTILINE)
                assert not modules or any(map(defined.search, modules)), f"{name} is not defined in {paths}"


def test_every_link_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]
    for page in pages:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_links_every_page_once():
    index = ROOT / "docs" / "README.md"
    linked = re.findall(r"\]\((?!\.\.)([^)#]+\.md)\)", index.read_text(encoding="utf-8"))
    pages = {path.relative_to(index.parent).as_posix() for path in index.parent.rglob("*.md")} - {"README.md"}
    assert sorted(linked) == sorted(pages)


def test_lines_are_at_most_120_wide():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    pages += [ROOT / "benchmarks" / "RESULTS.md", ROOT / "examples" / "README.md"]
    for page in pages:
        text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for line in text.splitlines():
            free = line.startswith("|") or re.fullmatch(r"[-*\s]*!?\[[^]]*\]\(\S+\)", line)
            assert free or len(line) <= 120, f"{page.name} has a line of {len(line)}: {line[:60]}...; expected 120"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("word", ["mixer_requests_total", "/classify/batch", "MIXER_API_KEYS"])
def test_operators_find_what_they_look_for(word: str):
    assert any(word in page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))


if __name__ == "__main__":
    print(settings_table())  # noqa: T201
