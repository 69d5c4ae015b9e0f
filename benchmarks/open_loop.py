"""Sends records on a fixed schedule, whatever becomes of them: event n is due at start + n / rate.

What is due is sent every 5 ms: every 2 ms, sending alone took 29 % of a core from the system that it measures.

    python -m benchmarks.open_loop HOST:PORT TOPIC RATE SECONDS [FIRST] [SPREAD]

ML-1M's events from number FIRST on, SPREAD groups of users taking turns; where they end they begin again with other
users. Prints one JSON line: how many were sent and acknowledged, and how late the latest was sent. A system that
falls behind is shown no mercy: a closed loop would wait for it and hide what its users see.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from aiokafka import AIOKafkaProducer

from benchmarks import topics_filled

TICK_S = 0.005


async def produce(
    address: str, topic: str, records: Iterator[tuple[bytes, bytes]], rate: float, seconds: float
) -> dict[str, Any]:
    """Send `rate * seconds` records on schedule; figures of how it went."""
    producer = AIOKafkaProducer(bootstrap_servers=address, acks=1, linger_ms=0, max_batch_size=1 << 16)
    await producer.start()
    total = int(rate * seconds)
    records = chain(
        [next(records)], records
    )  # what it takes to have the first one is not part of the schedule
    sent, latest, last = 0, 0.0, None
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        while sent < total:
            now = loop.time()
            due = min(total, int((now - started) * rate) + 1)
            if due > sent:
                latest = max(latest, now - started - sent / rate)
                for key, value in islice(records, due - sent):
                    last = await producer.send(topic, value, key)
                sent = due
            await asyncio.sleep(TICK_S)
        if last is not None:
            await producer.flush()
    finally:
        await producer.stop()
    return {
        "rate": rate,
        "sent": sent,
        "s": round(loop.time() - started, 3),
        "latest_send_ms": round(1000 * latest, 1),
        "ended": time.time(),
    }


def endless(first: int = 0, spread: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """ML-1M from event `first` on, again and again, each time with users of their own."""
    data = topics_filled.load()
    yield from islice(topics_filled.records(data, spread=spread), first, None)
    again = 1
    while True:
        yield from topics_filled.records(data, users=f"again-{again}-", spread=spread)
        again += 1


def main() -> None:
    address, topic, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    first, spread = (*map(int, sys.argv[5:]), *(0, 1)[len(sys.argv) - 5 :])
    print(json.dumps(asyncio.run(produce(address, topic, endless(first, spread), rate, seconds))), flush=True)


if __name__ == "__main__":
    main()
