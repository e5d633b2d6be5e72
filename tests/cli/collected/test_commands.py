"""`mixer collected`: what is printed, deleted and refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.collected import commands
from cli.main import app
from model.errors import MixerError


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, ["collected", *(str(argument) for argument in arguments)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    return outcome.stdout


def test_list_has_a_line_for_each_picture(kept: Path) -> None:
    assert run("list", kept).splitlines() == [
        "2025-11-26/old-0.png\tred\t0.900\t-\tshare\tcolours",
        "2025-11-29/a-0.png\tred\t0.900\tblue\tshare\tcolours",
        "2025-11-29/b-0.png\tred\t0.900\tred\tshare\tcolours",
    ]
    assert len(run("list", kept, "--labelled-only").splitlines()) == 2


def test_list_says_that_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.list_pictures(tmp_path)
    assert capsys.readouterr() == ("", f"{tmp_path} has no picture.\n")
    commands.list_pictures(tmp_path, labelled_only=True)
    assert capsys.readouterr().err == f"{tmp_path} has no labelled picture.\n"


def test_prune_deletes_what_is_old(kept: Path) -> None:
    printed = run("prune", kept, "--days", 100_000)
    assert printed.startswith(f"{kept}: 3 pictures are left, ")
    assert run("prune", kept, "--days", 1).startswith(f"{kept}: 0 pictures are left, ")
    assert [path.name for path in kept.iterdir()] == [".usage"]


@pytest.mark.parametrize("labelled", [True, False])
def test_export_says_how_many_are_the_models_own_guess(kept: Path, tmp_path: Path, labelled: bool) -> None:
    flags = ["--labelled-only"] if labelled else []
    printed = run("export", kept, "--output", tmp_path / "out", *flags)
    of = 2 if labelled else 3
    assert printed == f"{tmp_path / 'out'}: {of} pictures; somebody has labelled 2 of {of}\n"


def test_what_cannot_be_exported_is_refused(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(MixerError, match="file is there already; expected a new folder"):
        run("export", kept, "--output", tmp_path / "file")
    with pytest.raises(MixerError, match="cannot be written"):
        run("export", kept, "--output", tmp_path / "file" / "out")
    (tmp_path / "tasks.xml").write_text("mine")
    with pytest.raises(MixerError, match=r"tasks\.xml is there already; expected a new file"):
        run("export", kept, "--to", "label-studio", "--output", tmp_path / "tasks.json")
    with pytest.raises(MixerError, match=r"is where the labelling configuration goes; expected another ending"):
        run("export", kept, "--to", "label-studio", "--output", tmp_path / "new.xml")
    assert {(tmp_path / name).read_text() for name in ("file", "tasks.xml")} == {"mine"}
    assert not (tmp_path / "tasks.json").exists()
    with pytest.raises(MixerError, match="nowhere is no folder; expected that of a service's kept pictures"):
        run("list", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MixerError, match="has no labelled picture"):
        run("export", tmp_path / "empty", "--output", tmp_path / "out", "--labelled-only")
