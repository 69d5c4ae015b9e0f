"""A process that warms up, then does what a worker does, and prints what was compiled before and after.

    python -m tests.stream_app.worker.after_warm_up SNAPSHOT_FOLDER

Prints how many signatures the kernels had after the warm-up, and those that have more now. In a process of its own,
since other tests compile too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numba.core.registry import CPUDispatcher

from models.sequence import snapshot
from models.sequence.reranker import Reranker
from models.training.event_log import EventLog
from models.training.train import Trainer
from stream_app.batch.pipeline import Pipeline
from stream_app.settings import Settings, load
from stream_app.worker.new_recommender import new_recommender
from stream_app.worker.warm_up import warm_up
from tests.records import APPENDED, Read, event

USERS, EVENTS, BATCH = 100, 1200, 20


def signatures() -> dict[str, int]:
    """How many signatures each kernel of `models` is compiled for."""
    modules = [module for name, module in sys.modules.items() if name.startswith("models.")]
    return {
        f"{module.__name__}.{name}": len(found.signatures)
        for module in modules
        for name, found in vars(module).items()
        if isinstance(found, CPUDispatcher)
    }


def trained(settings: Settings, pipeline: Pipeline, records: list[Read]) -> Trainer:
    """A Transformer that has learned these records."""
    events = pipeline.decoder.decode(records, APPENDED)
    log = EventLog(1000)
    log.append(
        events.user, events.item, events.kind, np.array(events.value, np.float32),
        np.ones(len(events), np.float32), np.array(events.ts), {},
    )  # fmt: skip
    trainer = Trainer(settings.models.transformer, band=10, seed=0)
    trainer.refresh(log, 0, 600)
    return trainer


def main() -> None:
    folder = Path(sys.argv[1])
    settings = load({"models.sequence.length": 20, "worker.snapshots": str(folder.parent)})
    warm_up(settings)
    before = signatures()
    recommender = new_recommender(settings)
    pipeline = Pipeline(settings, recommender, lambda _partition, users: [None] * len(users))
    records = []
    for n in range(EVENTS):
        rated = {"value": n % 5 + 1} if n % 3 == 0 else {}
        user, item, late = f"u{n % USERS}", f"i{(7 * n + n // USERS * 13) % 300}", 500 if n % 50 == 49 else 0
        kind, ts = "rating" if rated else "click", APPENDED + n - late
        records.append(Read(event(user, item, kind, ts=ts, **rated), n))
    trainer = trained(settings, pipeline, records[:300])
    for number, start in enumerate(range(0, EVENTS, BATCH)):
        if number in (20, 40):  # from the second one on, the first is the frozen baseline
            sha256 = snapshot.write(folder, trainer, str(number))
            recommender.set_reranker(Reranker(snapshot.read(folder, sha256)))
            pipeline.refresh([f"u{n}" for n in range(USERS)])
        pipeline.process(records[start : start + BATCH], received_ms=APPENDED)
        recommender.take_dirty()
        recommender.mark_clean()
    recommender.make_room()
    assert recommender.metrics()["sample_scored"] > 0
    after = signatures()
    print(json.dumps([sum(before.values()), {k: n for k, n in after.items() if n != before.get(k)}]))


if __name__ == "__main__":
    main()
