"""Imports form no circle: every module can be the first one that is imported, and data flows one way."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "producers", "stream_app")


def at_import(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported: those in functions and for type checkers don't."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield from at_import(node)


def imported(source: str) -> set[str]:
    """Modules that a source names in these imports, and what it takes out of them, which may be modules."""
    found: set[str] = set()
    for node in at_import(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def circle(sources: dict[str, str]) -> list[str]:
    """A circle among the modules, or nothing."""
    graph = {name: imported(source) & sources.keys() for name, source in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_a_detour() -> None:
    paths = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stem != "__init__"
    ]
    sources = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in paths}
    assert len(sources) > 100
    assert circle(sources) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "stream_app" / "brokers").glob("*.py")), ids=lambda path: path.name
)
def test_what_talks_to_brokers_knows_nothing_of_what_is_built_on_it(path: Path) -> None:
    ours = {name for name in imported(path.read_text()) if name.split(".")[0] in PACKAGES}
    below = ("stream_app.brokers.", "stream_app.children", "stream_app.errors", "stream_app.settings")
    assert {name for name in ours if not f"{name}.".startswith(below)} <= {"stream_app.brokers"}


@pytest.mark.parametrize(
    ("b", "found"),
    [
        ("import a", True),
        ("from a import x", True),
        ("if True:\n    import a", True),
        ("def f():\n    import a", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a", False),
    ],
)
def test_the_check_finds_what_it_looks_for(b: str, found: bool) -> None:
    assert bool(circle({"a": "import b", "b": b})) == found
