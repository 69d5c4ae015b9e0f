"""The command line: `headrace COMMAND`. Its commands live in `stream_app.commands`, one idea each.

In: the arguments of the process. Out: its exit code: 0, 1 for what went wrong while running, 2 for what was
asked wrongly, 130 for an interrupt. An error is a line for people; `HEADRACE_DEBUG=1` shows its traceback.
Importing this module loads no broker client, no torch and no settings, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Annotated

import typer

from stream_app.commands import (
    backtest,
    consumers,
    evaluate,
    models,
    producers,
    services,
    state,
    topics,
    tune,
)
from stream_app.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, HeadraceError

OUR_PACKAGES = ("models", "producers", "stream_app")

app = typer.Typer(
    name="headrace",
    help="Streaming real-time recommender: a click goes in, a better recommendation comes out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    services,
    topics,
    producers,
    backtest,
    evaluate,
    tune,
    consumers,
    models,
    state,
):
    part.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"headrace {version('headrace')}")
        except PackageNotFoundError:
            typer.echo("headrace (not installed: run from a checkout)")
        raise typer.Exit


FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system says when nothing more can be written."""


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Streaming real-time recommender: a click goes in, a better recommendation comes out."""


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for client in ("aiokafka", "kafka"):
        # What they say while a broker is away, or of each connection, is noise beside our own lines.
        logging.getLogger(client).setLevel(logging.CRITICAL)
    try:
        app(args=arguments, prog_name="headrace")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_OK if end.code is None else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            where = f" ({error.filename})" if error.filename else ""
            return _told(
                HeadraceError(f"the disk is full{where}", "Free some space, or name folders on another disk.")
            )
        # Errors of our own packages are written for people; any other one is a bug and keeps its traceback.
        if type(error).__module__.partition(".")[0] not in OUR_PACKAGES:
            raise
        if os.environ.get("HEADRACE_DEBUG") == "1":
            raise
        return _told(error)
    return EXIT_OK


def _told(error: Exception) -> int:
    """Print an error for people; the exit code that it stands for."""
    typer.secho(f"headrace: {error}", fg="red" if sys.stderr.isatty() else None, err=True)
    return error.exit_code if isinstance(error, HeadraceError) else EXIT_FAILED


def main() -> None:
    """Console script `headrace`."""
    sys.exit(run())


if __name__ == "__main__":
    main()
