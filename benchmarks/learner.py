"""The worker with the learning path alone: no lists, and nothing that learns from lists.

    python -m benchmarks.learner HOST:PORT STATE_DIR WEB_PORT

It is `stream_app.worker.app.run_worker` with a pipeline that was told to make no lists, in batches of 5,000: decode,
validate, drop duplicates, popularity, co-visitation, explicit MF, asymmetric MF, persist, commit. The blend learns
nothing (`models.blend.lr` is 0), nor does SLIM, whose lessons are the blend's; the Transformer is off. `headrace
worker` has no such mode: it makes lists while it catches up. Ends on SIGTERM, its state closed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream_app.batch.pipeline import Pipeline, Processed
from stream_app.batch.refusals import Record
from stream_app.settings import Settings, load
from stream_app.store.state import StateStore
from stream_app.worker.app import run_worker
from stream_app.worker.new_recommender import new_recommender


class LearningPipeline(Pipeline):
    """Learns, and lists nothing."""

    def process(self, records: Sequence[Record], **options: Any) -> Processed:
        return super().process(records, **{**options, "lists": False})


def settings_for(address: str, state_dir: Path, web_port: int) -> Settings:
    """The defaults, but for the batches, the blend, which learns from lists only, and the Transformer."""
    return load(
        {
            "broker.url": address,
            "worker.state_dir": str(state_dir),
            "worker.web_port": web_port,
            "worker.batch_events": 5000,
            "models.blend.lr": 0.0,
            "models.transformer.enabled": False,
        }
    )


def main() -> None:
    settings = settings_for(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

    def build(store: StateStore, partitions: int) -> Pipeline:
        recommender = new_recommender(settings)
        recommender.load(store.items(), store.model_meta())
        return LearningPipeline(settings, recommender, store.load_users, partitions=partitions)

    sys.exit(run_worker(settings, build=build))


if __name__ == "__main__":
    main()
