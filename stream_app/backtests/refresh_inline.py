"""Refreshes of the Transformer inside a backtest: after fixed numbers of events, while the stream waits.

In: accepted events. Out: a re-ranker that is set on the recommender, and the log of refreshes. The schedule
and the budget are the trainer's; there is no gate, since the events to judge on are those that come next.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from models.base import I64, EventBatch
from models.pipeline.recommender import Recommender
from models.training.event_log import EventLog
from models.training.train import Trainer
from producers.columns import Dataset
from stream_app.backtests.dataset_batches import DatasetBatches
from stream_app.backtests.report import Refresh
from stream_app.evaluation.item_features import descriptions
from stream_app.settings import Settings
from stream_app.training import ranker
from stream_app.training.refresher import budget, interval
from stream_app.training.trainer import pick_device


class InlineRefresher:
    """The trainer's history, weights and schedule."""

    def __init__(self, settings: Settings, seed: int, recommender: Recommender, dataset: Dataset) -> None:
        self.settings, self.recommender = settings, recommender
        self.events = EventLog(settings.trainer.history_events)
        self.device = pick_device(settings.trainer.device)
        self.trainer = ranker.make_trainer(settings, seed, self.device)
        if not isinstance(self.trainer, Trainer) and self.trainer.uses_content:
            self.trainer.describe(descriptions(dataset))
        self.log: list[Refresh] = []
        self.due = interval(settings, 0)
        self._new_from = 0

    def append(self, batches: DatasetBatches, batch: EventBatch, rows: I64, start: int) -> None:
        """Keep accepted events: rows of the data set, of the batch that begins at row `start`."""
        some, dataset = rows - start, batches.dataset
        self.events.append(
            [dataset.user_ids[code] for code in dataset.user[rows]],
            [dataset.item_ids[code] for code in dataset.item[rows]],
            [batches.kinds[code] for code in batches.kind[rows]],
            batch.value[some],
            batch.weight[some],
            batch.ts[some],
            {},
        )

    def erase(self, user: str) -> None:
        """Forget whose events this user's were."""
        self.events.erase(user)

    def refresh(self, at: int) -> None:
        """Train on, and re-rank with the new weights from here."""
        new = self.events.end - self._new_from
        started = time.perf_counter()
        done = self.trainer.refresh(self.events, self._new_from, budget(self.settings, new, self.events.end))
        version = f"{len(self.log) + 1:06d}"
        if done.steps:
            with tempfile.TemporaryDirectory() as folder:
                written = Path(folder) / version
                ranker.write(written, self.trainer, version, {})
                self.recommender.set_reranker(ranker.read(self.settings, written, None, self.device))
        self.log.append(
            Refresh(
                at=at,
                version=version,
                tokens=done.tokens,
                seconds=time.perf_counter() - started,
                loss=done.loss if np.isfinite(done.loss) else None,
                items=len(self.trainer.item_ids),
                live=done.steps > 0,
            )
        )
        self._new_from = self.events.end
        self.due = at + interval(self.settings, at)
