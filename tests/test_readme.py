"""The README's commands are there, and are commands that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from models.family.registry import MODELS
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


def test_every_model_of_the_family_has_its_figure() -> None:
    """Of the kept table, worst ones included: a reader should not have to ask which were left out."""
    table = json.loads((ROOT / "benchmarks/results/leave_one_out_ml-100k_all.json").read_text())
    (row,) = [line for line in README.splitlines() if line.startswith("| all models of the family")]
    said = dict(re.findall(r"([a-z0-9-]+) \*{0,2}(\.\d{4})", row))
    assert said == {one["model"]: f"{one['hr@10']:.4f}"[1:] for one in table["records"]}
    assert said.keys() == MODELS.keys()
