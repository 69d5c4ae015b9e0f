"""The models are pure: no broker, no store, no clock, no environment."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import models

FOLDER = Path(models.__file__ or "").parent
FORBIDDEN = {
    "aiokafka",
    "datetime",
    "faust",
    "kafka",
    "mode",
    "producers",
    "random",
    "rocksdict",
    "stream_app",
    "time",
}


def impurities(source: str) -> set[str]:
    """Forbidden modules that a source imports, and names of the environment that it uses."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0]} & FORBIDDEN
            if node.module == "os":
                found |= {alias.name for alias in node.names} & {"environ", "getenv"}
        elif isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_a_model_reads_no_broker_no_store_no_clock_and_no_environment(path: Path) -> None:
    assert impurities(path.read_text()) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("def f():\n    from datetime import datetime", {"datetime"}),
        ("import aiokafka.errors as e", {"aiokafka"}),
        ("import os\nos.environ['A']", {"environ"}),
        ("from os import getenv as g", {"getenv"}),
        ("import numpy", set()),
    ],
)
def test_the_check_finds_what_it_looks_for(source: str, found: set[str]) -> None:
    assert impurities(source) == found
