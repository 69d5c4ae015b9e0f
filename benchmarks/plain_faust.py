"""What a competent user of Faust would write: each user's count and last 50 items, in a Table.

    python -m benchmarks.plain_faust HOST:PORT TOPIC PARTITIONS EVENTS

JSON in, one Table row a user, kept in RocksDB, no models. Faust's own settings but for the store and for what
makes it faster or quieter. Prints one JSON line of figures after EVENTS events and ends.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import faust

LAST = 50


def program(address: str, topic: str, partitions: int, events: int, folder: Path) -> faust.App:
    """The application; it stops itself when `events` were counted."""
    app = faust.App(
        f"plain-faust-{os.getpid()}",
        broker=f"kafka://{address}",
        store="rocksdb://",
        datadir=str(folder),
        topic_partitions=partitions,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        value_serializer="json",
        web_enabled=False,
    )
    source = app.topic(topic, key_type=str, key_serializer="raw", value_type=None, value_serializer="json")
    users = app.Table("users", partitions=partitions, options={"driver": "rocksdict"})
    started = time.perf_counter()
    first = 0.0
    count = 0

    @app.agent(source)
    async def learn(stream: Any) -> None:
        nonlocal first, count
        async for event in stream:
            if not count:
                first = time.perf_counter()
            row = users.get(event["user_id"]) or {"count": 0, "last": []}
            row["count"] += 1
            row["last"] = [*row["last"], event["item_id"]][-LAST:]
            users[event["user_id"]] = row
            count += 1
            if count == events:
                now = time.perf_counter()
                print(
                    json.dumps({"events": count, "s": now - first, "with_start_s": now - started}), flush=True
                )
                os._exit(0)  # the figures are out; stopping a Faust worker takes it several seconds

    return app


def main() -> None:
    address, topic, partitions, events = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with tempfile.TemporaryDirectory() as folder:
        app = program(address, topic, partitions, events, Path(folder))
        faust.Worker(
            app, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False
        ).execute_from_commandline()


if __name__ == "__main__":
    main()
