"""Training by as many processes as torchrun starts, each of which reads its share of the partitions.

In: settings, the events topics up to their present ends. Out: one snapshot, written and announced by the first process.
A partition is a shard (`models.training.distributed`), so the weights do not depend on the number of processes. Never
moves the live pointer, and keeps no state: it trains anew each time.

    headrace models train --broker HOST:PORT --snapshots DIR
    torchrun --nproc-per-node 2 -m stream_app.cli models train --broker HOST:PORT --snapshots DIR
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from aiokafka import ConsumerRecord, TopicPartition

from models.sequence import snapshot
from models.sequence.transformer import band_for
from models.training.distributed import DistributedTrainer, Group
from models.training.event_log import EventLog
from stream_app.batch.careful import ERASE
from stream_app.batch.decode import EventDecoder
from stream_app.brokers.topic_reader import TopicReader, open_reader
from stream_app.errors import UsageError
from stream_app.settings import Settings
from stream_app.training.event_feed import name_of
from stream_app.training.new_version import put
from stream_app.training.shadow import events_of
from stream_app.training.trainer import pick_device

BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Trained:
    """The version that was written; events of how many shards, by how many processes; the mean loss of each step."""

    version: str
    events: int
    shards: int
    processes: int
    losses: list[float]

    @property
    def last(self) -> float:
        """Mean loss of the last tenth of the steps."""
        return float(np.mean(self.losses[-max(len(self.losses) // 10, 1) :]))


def train_sharded(settings: Settings, tokens_per_event: float, curve: Path | None = None) -> Trained | None:
    """Read, train, write, announce; None in all processes but the first.

    Raises:
        UsageError: the topics hold nothing to learn from.
        HeadraceError: no broker, a missing topic, CUDA asked for but absent.
    """
    device = pick_device(settings.trainer.device)
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    if together:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        return _train(settings, tokens_per_event, curve, Group(device))
    finally:
        if together:
            dist.destroy_process_group()


def _train(settings: Settings, tokens_per_event: float, curve: Path | None, group: Group) -> Trained | None:
    logs, offsets = asyncio.run(_read(settings, group.rank, group.size))
    said = group.gather((len(logs), sum(len(log) for log in logs.values()), offsets))
    shards, events = sum(n for n, _, _ in said), sum(n for _, n, _ in said)
    model = settings.models.transformer
    trainer = DistributedTrainer(
        model,
        band_for(settings.models.sequence.length, model.layers),
        settings.seed,
        device=group.device,
        threads=settings.trainer.torch_threads,
        scale=(settings.events.rating_low, settings.events.rating_high),
        max_items=settings.models.max_items,
    )
    losses = trainer.train(logs, round(tokens_per_event * events), group)
    if not losses:
        raise UsageError(
            f"{', '.join(settings.topics.events)}: no user has two events there, so there is nothing to learn",
            "Replay or simulate some traffic first.",
        )
    if group.rank:
        return None
    if curve is not None:
        curve.parent.mkdir(parents=True, exist_ok=True)
        curve.write_bytes(msgspec.json.encode(losses))
    cut = {name: offset for _, _, part in said for name, offset in part.items()}
    version = put(settings, lambda folder, new: snapshot.write(folder, trainer, new, cut), announce=True)
    return Trained(version, events, shards, group.size, losses)


async def _read(settings: Settings, rank: int, size: int) -> tuple[dict[int, EventLog], dict[str, int]]:
    """This process's shards by number, and the offset after the last record of each."""
    decoder = EventDecoder(settings.events, settings.topics.events)
    logs: dict[int, EventLog] = {}
    offsets: dict[str, int] = {}
    async with open_reader(settings) as reader:
        partitions = [at for topic in settings.topics.events for at in reader.partitions(topic)]
        for number in range(rank, len(partitions), size):
            logs[number] = await _shard(reader, partitions[number], decoder, settings, offsets)
    return logs, offsets


async def _shard(
    reader: TopicReader,
    at: TopicPartition,
    decoder: EventDecoder,
    settings: Settings,
    offsets: dict[str, int],
) -> EventLog:
    log, taken = EventLog(settings.trainer.history_events), set[tuple[str, int]]()
    waiting: list[ConsumerRecord] = []
    async for record in reader.to_end([at]):
        waiting.append(record)
        offsets[name_of(at)] = record.offset + 1
        if len(waiting) == BATCH:
            _take(log, taken, waiting, decoder, settings)
            waiting = []
    _take(log, taken, waiting, decoder, settings)
    return log


def _take(
    log: EventLog,
    taken: set[tuple[str, int]],
    records: Sequence[ConsumerRecord],
    decoder: EventDecoder,
    settings: Settings,
) -> None:
    """Append what passes the checks, each event once; who asked to be forgotten is, up to there."""
    events = events_of(decoder.decode(list(records), time.time() * 1000), settings.events)
    kept: list[int] = []

    def append() -> None:
        some = events.take(np.array(kept, np.int64))
        log.append(some.user, some.item, some.type, some.value, some.weight, some.ts, {})
        kept.clear()

    for row, (user, kind, number) in enumerate(
        zip(events.user, events.type, events.event_id.tolist(), strict=True)
    ):
        if kind == ERASE:
            append()
            log.erase(user)
        elif not number or (user, number) not in taken:
            taken.add((user, number))
            kept.append(row)
    append()
