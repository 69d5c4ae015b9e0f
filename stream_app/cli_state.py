"""`headrace state`: a look into the state of a stopped worker, and a way to carry it elsewhere.

In: flags. Out: text on stdout, one JSON document a line. What is read is in `stream_app.state_tools`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_app.cli_options import Assignments, Broker, ConfigFile, StateDir
from stream_app.cli_settings import load_settings

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The state of a stopped worker: show, dump, offsets, export, import.",
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="state")
