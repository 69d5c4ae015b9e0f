"""`headrace models`: which snapshots of the re-ranker there are, taking one back, making a smaller or a new one.

In: flags. Out: a table, the pointer that was written, or a new snapshot's version and size. The work is done in
`stream_app.training.registry`, `stream_app.training.compressed` and `stream_app.training.sharded`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_app.commands.options import Assignments, Broker, ConfigFile, make_folder
from stream_app.commands.settings import load_settings

if TYPE_CHECKING:
    from stream_app.training.compressed import Made

Snapshots = Annotated[
    Path | None, typer.Option("--snapshots", metavar="DIR", help="Folder of the trainer's snapshots.")
]


class Form(StrEnum):
    """As `models.compression.packed.Form`, which is not imported for a help text."""

    INT8 = "int8"
    BF16 = "bf16"
    FP16 = "fp16"
    PRUNED = "pruned"


group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Snapshots of what re-ranks: list, roll back, unpin; of the Transformer alone: compress, distil, train.",
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group, name="models")


@group.command("list")
def list_(
    snapshots: Snapshots = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """List the announced snapshots, oldest first, with their gate figures."""
    settings = load_settings(config, broker, assignments, {"trainer.snapshots": snapshots})
    from rich.console import Console
    from rich.table import Table

    from stream_app.training.registry import list_models

    rows = list_models(settings)
    if not rows:
        typer.echo("no snapshot was announced yet: `headrace trainer` makes them")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("version", "live", "made", "events up to", "gate"):
        table.add_column(name, overflow="fold")
    for row in rows:
        live = ("live, pinned" if row.pinned else "live") if row.live else ""
        made = datetime.fromtimestamp(row.created_ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        cut = " ".join(f"{at}:{offset}" for at, offset in sorted(row.cut.items()))
        gate = " ".join(f"{name}={_figure(value)}" for name, value in row.gate.items())
        table.add_row(row.version, live, made, cut, gate)
    Console().print(table)


@group.command()
def rollback(
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Else the one that was live before.")
    ] = None,
    snapshots: Snapshots = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Make an earlier snapshot live and pin it: the trainer won't replace it until `unpin`."""
    settings = load_settings(config, broker, assignments, {"trainer.snapshots": snapshots})
    from stream_app.training.registry import rollback as roll_back

    pointer = roll_back(settings, to)
    typer.echo(f"live is now {pointer.version}, pinned; `headrace models unpin` lets the trainer go on")


@group.command()
def unpin(config: ConfigFile = None, broker: Broker = None, assignments: Assignments = None) -> None:
    """Let the trainer replace the live snapshot again."""
    settings = load_settings(config, broker, assignments)
    from stream_app.training.registry import unpin as let_go

    pointer = let_go(settings)
    typer.echo(f"live is {pointer.version}, not pinned: the next snapshot that passes the gate replaces it")


@group.command()
def compress(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The snapshot to make smaller.")],
    to: Annotated[Form, typer.Option("--to", help="What its matrices become.")],
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=0.99, help="Of the weights to set to zero (--to pruned).")
    ] = 0.5,
    snapshots: Snapshots = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Write a Transformer's weights in fewer bytes, as a new version; announce it where --broker is given."""
    settings = load_settings(config, broker, assignments, {"trainer.snapshots": snapshots})
    from stream_app.training.compressed import compress_version

    made = compress_version(settings, version, to.value, share, announce=broker is not None)
    _say_made(made, f"{version} as {to.value}", announced=broker is not None)


@group.command()
def distil(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The snapshot that teaches.")],
    width: Annotated[int, typer.Option("--width", min=2, help="Of the new model's vectors.")] = 32,
    tokens_per_event: Annotated[
        float, typer.Option("--tokens-per-event", min=0.1, help="Predictions learned for each event kept.")
    ] = 14.0,
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=1.0, help="The teacher's part of the loss.")
    ] = 0.5,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", metavar="DIR", help="The trainer's folder, for its history.")
    ] = None,
    snapshots: Snapshots = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Teach a smaller Transformer with a snapshot and the trainer's history; announce it with --broker."""
    paths = {"trainer.snapshots": snapshots, "trainer.state_dir": state_dir}
    settings = load_settings(config, broker, assignments, paths)
    from stream_app.training.compressed import distil_version

    made = distil_version(
        settings,
        version,
        width=width,
        tokens_per_event=tokens_per_event,
        share=share,
        announce=broker is not None,
    )
    _say_made(made, f"{version} distilled to width {width}", announced=broker is not None)


@group.command()
def train(
    tokens_per_event: Annotated[
        float, typer.Option("--tokens-per-event", min=0.1, help="Predictions learned for each event.")
    ] = 14.0,
    curve: Annotated[
        Path | None, typer.Option("--curve", metavar="FILE", help="Write the loss of each step, as JSON.")
    ] = None,
    snapshots: Snapshots = None,
    config: ConfigFile = None,
    broker: Broker = None,
    assignments: Assignments = None,
) -> None:
    """Train the Transformer anew on what the events topics hold; under torchrun, processes share the partitions.

    A partition's newest events are kept, all partitions together at most trainer.history_events. With CUDA, as many
    processes as there are GPUs.
    """
    settings = load_settings(config, broker, assignments, {"trainer.snapshots": snapshots})
    make_folder("--snapshots", settings.trainer.snapshots)
    if curve is not None:
        make_folder("--curve", curve.parent)
    from stream_app.training.sharded import train_sharded

    made = train_sharded(settings, tokens_per_event, curve)
    if made is not None:
        typer.echo(
            f"{made.version}: {made.events:,} events of {made.shards} partitions, {made.processes} processes,"
            f" {len(made.losses)} steps, loss {made.losses[0]:.3f} to {made.last:.3f}"
        )
        if made.dropped:
            typer.echo(f"{made.dropped:,} older events were left out: trainer.history_events is the most")
        if made.refused:
            typer.echo(f"{made.refused:,} bad records were skipped; the worker keeps them as dead letters")
        _say_announced(made.version)


def _say_made(made: Made, how: str, *, announced: bool) -> None:
    share = made.bytes / made.bytes_before
    typer.echo(
        f"{made.version}: {how}, {made.bytes:,} bytes of weights in place of {made.bytes_before:,} ({share:.2f})"
    )
    if announced:
        _say_announced(made.version)


def _say_announced(version: str) -> None:
    typer.echo(f"announced, not live: `headrace models rollback --to {version}` pins it")


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
