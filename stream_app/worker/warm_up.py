"""Everything that is compiled on its first call, called once before the worker takes part in anything.

In: settings. Out: compiled kernels, from the user's cache where it has them. What is processed here is thrown
away.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.config import TransformerSettings
from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings
from stream_app.worker.new_recommender import new_recommender

if TYPE_CHECKING:
    from models.sequence.reranker import Reranker

log = logging.getLogger(__name__)

WORTH_TELLING_S = 5.0


@dataclass(frozen=True, slots=True)
class _MadeUp:
    """A record that never was."""

    topic: str
    offset: int
    value: bytes
    key: bytes = b"u"
    partition: int = 0
    timestamp: int = 1
    timestamp_type: int = 0


def warm_up(settings: Settings) -> None:
    """Take a few made-up events the whole way; when it takes long, the log says why.

    With a Transformer where snapshots are loaded: else the first batch after the first one would compile what it needs,
    for seconds in which nothing is answered.
    """
    started = time.monotonic()
    patience = threading.Timer(WORTH_TELLING_S, log.info, ["compiling the models: a minute or so, once"])
    patience.daemon = True
    patience.start()
    try:
        _whole_way(settings)
    finally:
        patience.cancel()
    took = time.monotonic() - started
    if took > WORTH_TELLING_S:
        log.info("the models were compiled in %.0f s; the next start finds them in the cache", took)


def _whole_way(settings: Settings) -> None:
    plain = settings.model_copy(
        update={"events": settings.events.model_copy(update={"map": {}, "ts_unit": "ms"})}
    )
    recommender = new_recommender(plain)
    pipeline = Pipeline(plain, recommender, lambda _partition, users: [None] * len(users))
    topic = settings.topics.events[0]
    event = '{"user_id":"u","item_id":"i%d","type":"rating","value":3,"ts":%d}'

    def process(start: int, *, lists: bool = True) -> None:
        records = [_MadeUp(topic, n, (event % (n, n)).encode()) for n in range(start, start + 3)]
        pipeline.process(records, received_ms=1000.0, lists=lists)

    process(0)
    process(3)
    process(6, lists=False)
    if loads_snapshots(settings):
        recommender.set_reranker(_small_reranker())
        for start in (9, 12):  # a user whom it lacks, then one whom it has
            process(start)
    pipeline.refresh(["u"])
    recommender.make_room()
    recommender.take_dirty()


def loads_snapshots(settings: Settings) -> bool:
    """Whether a worker with these settings ever re-ranks; where not, torch stays out of its process."""
    return settings.worker.snapshots is not None and settings.models.transformer.enabled


def _small_reranker() -> Reranker:
    """Kernels are compiled for types; what they work on may be of any size."""
    from models.sequence.reranker import Reranker  # which imports torch
    from models.sequence.snapshot import untaught

    config = TransformerSettings(d_model=8, layers=1, heads=1)
    return Reranker(untaught(config, 4, ["i0", "i1"], ["rating"]), cached_users=2)
