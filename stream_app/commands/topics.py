"""`headrace topics`: create headrace's topics on any broker, and say how they are set.

In: flags. Out: a table. What is created and read is in `stream_app.brokers.topics`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from stream_app.commands.options import Assignments, Broker, ConfigFile
from stream_app.commands.settings import load_settings

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Headrace's topics: create, describe.")


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="topics")


@group.command()
def create(
    partitions: Annotated[int, typer.Option(min=1, help="Of events, items and recommendations.")] = 4,
    replication: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each record; else 3, or as many as there are brokers."),
    ] = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Create the topics; those that are there are left as they are, and differences that matter are told."""
    settings = load_settings(config, broker, assignments)
    from stream_app.brokers import topics

    typer.echo(topics.create(settings.broker, settings.topics, partitions, replication))


@group.command()
def describe(config: ConfigFile = None, broker: Broker = None, assignments: Assignments = None) -> None:
    """Say how the topics are set: partitions, replication, cleanup, retention, timestamps, sizes."""
    settings = load_settings(config, broker, assignments)
    from stream_app.brokers import topics

    typer.echo(topics.describe(settings.broker, settings.topics))
