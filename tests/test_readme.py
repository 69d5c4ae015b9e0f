"""The README's commands are there, and are commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from stream_app.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))


@pytest.mark.parametrize(
    "command", ["make demo", "make test", "headrace worker", "headrace trainer", "headrace recommend"]
)
def test_a_newcomer_finds(command: str) -> None:
    assert re.search(rf"^{command}\b", SHELL, re.MULTILINE)


def test_every_command_of_headrace_is_one() -> None:
    known = set(typer.main.get_group(app).commands)
    named = set(re.findall(r"^headrace (\w+)", SHELL, re.MULTILINE))
    assert named <= known
    assert len(named) > 5


def test_every_target_of_make_is_one() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([\w-]+)", README)) <= targets


def test_every_file_that_it_points_to_is_there() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
