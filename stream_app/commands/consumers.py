"""Commands for people who look at recommendations: `recommend`, `watch`, and the `settings` in effect.

In: flags. Out: text on stdout. What is read from Kafka is in `stream_app.views.watch`. Never writes to a topic.
"""

from __future__ import annotations

from typing import Annotated

import typer

from stream_app.commands.model_settings import describe
from stream_app.commands.options import Assignments, Broker, ConfigFile
from stream_app.commands.settings import as_toml, collect, leaves, load_settings, origin, read_config


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("recommend")(recommend)
    app.command("watch")(watch)
    app.command("settings")(show_settings)


def recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as it was published.")] = False,
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="Where: what is popular there, for who has no list yet.")
    ] = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Print a user's newest list, with titles and reasons."""
    settings = load_settings(config, broker, assignments)
    import msgspec

    from stream_app.views import list_view, watch

    answer = watch.recommend(settings, user, scenario)
    if as_json:
        typer.echo(msgspec.json.encode(answer.record if answer.record else answer.items))
        if answer.note:
            typer.echo(answer.note, err=True)
        return
    console = list_view.console()
    heading = list_view.headline(answer.record) if answer.record else answer.note
    console.print(heading, style="bold", markup=False, highlight=False, soft_wrap=True)
    if answer.items:
        console.print(list_view.table(answer.items, answer.titles))


def watch(
    user: Annotated[str | None, typer.Argument(help="Only this user's lists, in full.")] = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Follow recommendations as they are published, until interrupted."""
    settings = load_settings(config, broker, assignments)
    from stream_app.views.list_view import console
    from stream_app.views.watch import watch as follow

    follow(settings, user, console())


def show_settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only what differs from the defaults.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|list",
            help="Instead: the settings of a model, for `evaluate --set NAME.…` and models.ranker_settings.",
        ),
    ] = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Print the effective settings, where each comes from and what it means."""
    if model is not None:
        typer.echo("\n".join(describe(model)))
        return
    settings = load_settings(config, broker, assignments)
    overrides, toml = collect(broker, assignments), read_config()
    rows = [
        (path, as_toml(value), origin(path, overrides, toml), doc) for path, value, doc in leaves(settings)
    ]
    secret = ("password", "token", "secret")
    for path, value, source, doc in rows:
        if changed and source == "default":
            continue
        shown = value if not any(word in value.lower() for word in secret) else "(set, not shown)"
        typer.echo(f"{path} = {shown}  # {source}{': ' + doc if doc else ''}")
