"""Every name that benchmarks, recipes, examples and tests import from this repository is there: nobody runs them all.

Read off the source: nothing is imported, so that no package has to be installed.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "bundles", "examples", "tests")
OWN = ("app", "benchmarks", "cli", "export", "mixer_client", "model", "tests")


class Import(NamedTuple):
    """`name`: None where the module itself is imported."""

    line: int
    module: str
    name: str | None


def imports_in(source: str) -> Iterator[Import]:
    """Those of this repository's own packages, within functions, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named = [Import(node.lineno, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            named = [Import(node.lineno, node.module, alias.name) for alias in node.names]
        else:
            continue
        yield from (one for one in named if one.module.partition(".")[0] in OWN)


def path_of(module: str) -> Path | None:
    """The file of a module or package of this repository; a folder without __init__.py is a package, too."""
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py", place) if path.exists()), None)


@cache
def names_in(path: Path) -> frozenset[str] | None:
    """What a module defines. None for one that says what it has when it runs, as generated ones do."""
    if path.is_dir():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if (
        any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)
        or "_pb2" in path.name
    ):
        return None
    return frozenset(_bound(tree.body))


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        else:
            yield from (
                one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
            )
            for field in ("body", "orelse", "finalbody", "handlers"):  # of if, try, with
                yield from _bound(getattr(node, field, []))


def is_there(wanted: Import) -> bool:
    path = path_of(wanted.module)
    if path is None or wanted.name is None:
        return path is not None
    names = names_in(path)
    return names is None or wanted.name in names or path_of(f"{wanted.module}.{wanted.name}") is not None


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_imported_is_there(folder: str):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    missing = [
        f"{path.relative_to(ROOT)}:{one.line}: {one.module} has no {one.name}"
        for path in files
        for one in imports_in(path.read_text(encoding="utf-8"))
        if not is_there(one)
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from model.weights.config import MixerConfig", True),
        ("from model.weights import config", True),
        ("import model.weights.config", True),
        ("def later():\n    from model.network.mixer import VARIANTS_OF_OTHERS", False),
        ("from model.no_such_module import MixerConfig", False),
        ("import benchmarks.no_such_module", False),
        ("from benchmarks.peers import body", True),
    ],
)
def test_a_name_that_is_not_there_is_found(source: str, expected: bool):
    (wanted,) = imports_in(source)
    assert is_there(wanted) is expected
