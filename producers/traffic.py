"""A simulation's records to a broker.

In: a `Simulation`. Out: its records on `items` and `events`, in order, and a `TrafficSummary` once every
one of them is acknowledged. Never goes on after a record that was refused: the ledger would no longer be
true.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event as StopEvent

from producers.delivery import Delivery, DeliveryError, partition_of
from producers.pace import Pace
from producers.replay import Progress
from producers.simulate import Ledger, Simulation
from stream_app.settings import BrokerSettings, TopicSettings

REPORT_EVERY_S = 0.1


@dataclass(slots=True)
class TrafficSummary:
    """What was sent and acknowledged; `ledger` says what a reader should make of it.

    Attributes:
        acknowledged: records of `events`; `items` of the catalogue.
        behind_s: how late the latest record was sent, against the schedule.
        finished: all `events` records were acknowledged.
    """

    topic: str
    partitions: int
    idempotent: bool
    ledger: Ledger = field(repr=False)
    acknowledged: int = 0
    items: int = 0
    value_bytes: int = 0
    seconds: float = 0.0
    behind_s: float = 0.0
    finished: bool = False

    @property
    def events_per_s(self) -> float:
        return self.acknowledged / self.seconds if self.seconds > 0 else 0.0


def send(
    simulation: Simulation,
    broker: BrokerSettings,
    topics: TopicSettings,
    *,
    rate: float | None = None,
    topic: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: StopEvent | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> TrafficSummary:
    """Send the whole stream, at `rate` records a second on a fixed schedule, or as fast as it goes.

    Raises DeliveryError when the broker can't be reached or refuses a record.
    """
    topic = topics.events[0] if topic is None else topic
    pace = Pace(None, rate, clock, sleep)
    delivery = Delivery(broker, [topic, topics.items], linger_ms=1 if pace.paced else 20)
    try:
        counts = delivery.partitions
        summary = TrafficSummary(topic, counts[topic], delivery.idempotent, simulation.ledger)
        progress = Progress(simulation.events)
        partition: dict[tuple[str, bytes], int] = {}
        started = reported = clock()

        def settle(*, to_the_end: bool = False) -> None:
            nonlocal reported
            for number, _, _, error in delivery.drain() if to_the_end else delivery.outcomes():
                if error:
                    raise DeliveryError(f"record {number} of the simulation was not taken: {error}")
                if number < 0:
                    summary.items += 1
                else:
                    summary.acknowledged += 1
            progress.acknowledged = summary.acknowledged
            now = clock()
            if on_progress is not None and now - reported >= REPORT_EVERY_S:
                reported = now
                on_progress(progress)

        for kind, number, key, value, _ in simulation.records():
            summary.ledger = simulation.ledger
            if kind == "item":
                assert key is not None
                delivery.send(topics.items, key, value, partition_of(key, counts[topics.items]), -1)
                continue
            pace.wait(0, settle)
            if key is None:
                place = number % counts[topic]
            else:
                known = partition.get((topic, key))
                if known is None:
                    known = partition[topic, key] = partition_of(key, counts[topic])
                place = known
            delivery.send(topic, key, value, place, number)
            summary.value_bytes += len(value or b"")
            progress.sent += 1
            if not progress.sent % 256:
                settle()
                if stop is not None and stop.is_set():
                    break
        settle(to_the_end=True)
        summary.seconds = clock() - started
        summary.behind_s = pace.behind_s
        summary.finished = summary.acknowledged == simulation.events
        if on_progress is not None:
            on_progress(progress)
        return summary
    finally:
        delivery.close()
