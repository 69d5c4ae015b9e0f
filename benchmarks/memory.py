"""What users cost: memory and disk for 100,000 users with 50 events each.

    python -m benchmarks.memory [USERS] [EVENTS_EACH]

The worker's recommender and state store, fed without a broker: every event is learned, every user gets a list after
their last event, commits go to RocksDB as the worker makes them. Items are drawn by a power law from 10,000.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import record
from models.base import EventBatch
from models.pipeline.recommender import Recommender
from models.state.sequences import MAX_BATCH
from stream_app.batch.decode import partition_key
from stream_app.settings import Settings, load
from stream_app.store.state import StateStore
from stream_app.worker.new_recommender import new_recommender
from stream_app.worker.warm_up import warm_up

ITEMS = 10_000
START_MS = 1_700_000_000_000


def feed(settings: Settings, store: StateStore, recommender: Recommender, users: int, each: int) -> int:
    """All events, users mixed; bytes written by commits."""
    rng = np.random.default_rng(0)
    ids = [f"i{number}" for number in range(ITEMS)]
    numbers = recommender.catalogue.intern(ids)
    click = recommender.actions.code("click")
    total = users * each
    last = np.zeros(users, np.int64)
    written = 0
    for user in range(users):
        recommender.users.admit(f"user-{user}", 0, None)
    for start in range(0, total, MAX_BATCH):
        n = min(MAX_BATCH, total - start)
        offset = np.arange(start, start + n, dtype=np.int64)
        user = (offset * 7919 % users).astype(np.int32)  # every user once a round, in a mixed order
        item = numbers[np.minimum(rng.zipf(1.2, n) - 1, ITEMS - 1)]
        last[user] = offset
        batch = EventBatch(
            user=user,
            item=item,
            action=np.full(n, click, np.uint8),
            weight=np.ones(n, np.float32),
            value=np.full(n, np.nan, np.float32),
            ts=START_MS + offset,
            event_id=np.asarray(offset + 1, np.uint64),
            key=np.full(n, partition_key(settings.topics.events[0], 0), np.uint64),
            offset=offset,
        )
        recommender.process(batch, offset >= total - users)
        if recommender.dirty_bytes >= settings.worker.commit_bytes or start + n == total:
            written += store.commit(recommender.take_dirty(), {(settings.topics.events[0], 0): start + n})
            recommender.mark_clean()
    return written


def measure(users: int, each: int) -> dict[str, Any]:
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        settings = load({"worker.state_dir": folder, "models.max_cached_users": users})
        warm_up(settings)
        directory = Path(folder) / "state"
        empty = process.memory_info().rss
        with StateStore.open(directory, settings) as store:
            store.add_partitions(1)
            recommender = new_recommender(settings)
            started = time.perf_counter()
            written = feed(settings, store, recommender, users, each)
            took = time.perf_counter() - started
            full = process.memory_info().rss
            table = recommender.users
            columns = sum(column[: len(table)].nbytes for column in table.columns) + table.seen.nbytes
        with StateStore.read(directory) as store:
            rows = [len(row) for _, row in store.users(0)]
            disk = store.bytes_on_disk()
    return {
        "users": len(rows),
        "events": users * each,
        "s": round(took, 1),
        "memory_before_mb": round(empty / 2**20),
        "memory_after_mb": round(full / 2**20),
        "memory_bytes_per_user": round((full - empty) / users),
        "of_which_user_table": round(columns / users),
        "row_bytes_per_user": round(sum(rows) / len(rows)),
        "disk_mb": round(disk / 2**20, 1),
        "disk_bytes_per_user": round(disk / users),
        "commit_bytes_per_event": round(written / (users * each), 1),
    }


def main() -> None:
    users, each = (*map(int, sys.argv[1:]), *(100_000, 50)[len(sys.argv) - 1 :])
    taken_on = record.machine()
    record.write("memory", f"python -m benchmarks.memory {users} {each}", measure(users, each), taken_on)


if __name__ == "__main__":
    main()
