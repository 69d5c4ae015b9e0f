from __future__ import annotations

import ast
from pathlib import Path

import pytest

import producers

FOLDER = Path(producers.__file__).parent
ALLOWED = {"stream_app.errors", "stream_app.events", "stream_app.settings"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_a_producer_imports_the_wire_contract_and_no_other_part_of_the_worker(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    ours = {name for name in imported if name.split(".")[0] in ("stream_app", "models")}
    assert ours <= ALLOWED
