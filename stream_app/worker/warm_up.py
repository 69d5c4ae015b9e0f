"""Everything that is compiled on its first call, called once before the worker takes part in anything.

In: settings. Out: compiled kernels, from the user's cache where it has them. What is processed here is thrown
away.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings
from stream_app.worker.new_recommender import new_recommender

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
    """Take a few made-up events the whole way; when it takes long, the log says why."""
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
    event = '{"user_id":"u","item_id":"i%d","type":"rating","value":3,"ts":1}'
    for start in (0, 3):
        records = [_MadeUp(topic, n, (event % n).encode()) for n in range(start, start + 3)]
        pipeline.process(records, received_ms=1.0)
    pipeline.process(records, received_ms=1.0, lists=False)
    pipeline.refresh(["u"])
    recommender.take_dirty()
