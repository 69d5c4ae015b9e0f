"""`headrace state`: a look into the state of a stopped worker, and a way to carry it elsewhere.

In: flags. Out: JSON on stdout, one document a line. The work is done in `stream_app.store.state_tools` and
`stream_app.store.state_transfer`. Never talks to a broker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_app.commands.options import Assignments, ConfigFile, StateDir
from stream_app.commands.settings import load_settings

if TYPE_CHECKING:
    from stream_app.settings import Settings
    from stream_app.store.state import StateStore

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The state of a stopped worker: show, explain, dump, offsets, export, import.",
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="state")


@group.command()
def show(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Print all that is kept of a user."""
    with opened(state_dir, config, assignments) as (store, _):
        from stream_app.store import state_tools

        print_json(state_tools.show(store, user), indent=2)


@group.command()
def explain(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    item: Annotated[
        str | None, typer.Argument(help="An item's id, listed or not; else the whole list.")
    ] = None,
    state_dir: StateDir = None,
    snapshots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A snapshot of the Transformer, which then has its say too; or the folder of the only one.",
        ),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="For people instead of JSON.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Say why a user's items are listed: by source, by history item, what the policy held back or gives by lot."""
    with opened(state_dir, config, assignments) as (store, settings):
        from stream_app.store import state_explained

        found = state_explained.explain_user(store, settings, user, item, snapshots)
        if text:
            typer.echo(state_explained.readable(found))
        else:
            print_json(found, indent=2)


@group.command()
def dump(state_dir: StateDir = None, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print a JSON line for each user: user_id, events accepted so far, the last items."""
    with opened(state_dir, config, assignments) as (store, _):
        from stream_app.store import state_tools

        for user in state_tools.dump(store):
            print_json(user)


@group.command()
def offsets(state_dir: StateDir = None, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print the next offset of each topic-partition that the state stands for."""
    with opened(state_dir, config, assignments) as (store, _):
        from stream_app.store import state_tools

        print_json(state_tools.offsets(store), indent=2)


@group.command("export")
def export_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Write the state to a file that another version or machine can import."""
    with opened(state_dir, config, assignments) as (store, _):
        from stream_app.store.state_transfer import export_state

        carried = export_state(store, path)
    typer.echo(f"exported {carried.users:,} users and {carried.items:,} item rows: {carried.bytes:,} bytes")


@group.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `state export` wrote.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Make a new state folder from an exported file."""
    settings = load_settings(config, None, assignments, {"worker.state_dir": state_dir})
    from stream_app.store.state_transfer import import_state

    carried = import_state(path, settings)
    typer.echo(
        f"imported {carried.users:,} users and {carried.items:,} item rows into {settings.worker.state_dir}"
    )


@contextlib.contextmanager
def opened(
    state_dir: Path | None, config: Path | None, assignments: list[str] | None
) -> Iterator[tuple[StateStore, Settings]]:
    """The state, opened for reading."""
    settings = load_settings(config, None, assignments, {"worker.state_dir": state_dir})
    from stream_app.store.state import StateStore

    with StateStore.read(settings.worker.state_dir) as store:
        yield store, settings


def print_json(value: Any, indent: int = 0) -> None:
    """One JSON document."""
    import msgspec

    encoded = msgspec.json.encode(value)
    typer.echo(msgspec.json.format(encoded, indent=indent) if indent else encoded)
