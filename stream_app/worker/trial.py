"""Copies of the state on which suspects are tried.

In: the open state, the reader at the committed offsets. Out: the suspects, and a function that processes one
record on a fresh copy. The state itself is only read; the copy is deleted at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from typing import Any

from aiokafka import ConsumerRecord

from models.state.sequences import MAX_BATCH
from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings
from stream_app.store.state import StateStore
from stream_app.store.state_folder import StateError
from stream_app.worker.log_reader import LogReader
from stream_app.worker.suspects import Marker

FOLDER = "trial"
PATIENCE_S = 30.0


async def read_suspects(reader: LogReader, marker: Marker) -> list[ConsumerRecord]:
    """Read on from the committed offsets until the last batch that was being processed is there.

    Raises:
        StateError: the log does not hold it any more.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + PATIENCE_S
    records: list[ConsumerRecord] = []
    while marker.missing(reader.offsets):
        polled = await reader.poll(MAX_BATCH)
        records += polled
        if polled:
            deadline = clock.time() + PATIENCE_S
        elif clock.time() > deadline:
            raise StateError(
                f"the records that ended the worker do not come again within {PATIENCE_S:g} s",
                "Is the broker well? Start the worker again when it is.",
            )
    return records


class Trial:
    """One copy at a time; `fresh` throws the last one away."""

    def __init__(
        self, store: StateStore, settings: Settings, build: Callable[[StateStore], Pipeline]
    ) -> None:
        self._store = store
        self._settings = settings
        self._build = build
        self._folder = store.directory / FOLDER
        self._copy: StateStore | None = None

    def fresh(self) -> Callable[[ConsumerRecord], Any]:
        """A new copy of the state; what processes one record on it."""
        self.close()
        self._store.checkpoint(self._folder)
        self._copy = StateStore.open(self._folder, self._settings)
        pipeline = self._build(self._copy)
        return lambda record: pipeline.process([record], received_ms=time.time() * 1000)

    def close(self) -> None:
        """Delete the copy."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        shutil.rmtree(self._folder, ignore_errors=True)
