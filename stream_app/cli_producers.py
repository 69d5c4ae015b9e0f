"""Commands that make traffic, `replay` and `simulate`, and the `backtest`, which needs no broker.

In: flags. Out: a progress bar on stderr, a summary on stdout. The work is done in `producers` and
`stream_app.backtest`.
"""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
