"""A data set's rows as the batches that a worker would make of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from models.pipeline.recommender import Recommender
from models.vocabulary import kind_of
from producers.columns import catalogue, from_frame
from stream_app.backtests.backtest import Backtest
from stream_app.backtests.dataset_batches import DatasetBatches
from stream_app.batch.pipeline import Pipeline
from stream_app.settings import load
from stream_app.worker.new_recommender import new_recommender
from tests.records import Read, event

KINDS = ["click", kind_of("skip", "shop"), kind_of("click", "home"), "click", kind_of("click", "shop")]


def batches() -> DatasetBatches:
    frame = pl.DataFrame(
        {
            "user": ["u", "u", "v", "v", "u"],
            "item": ["a", "b", "a", "c", "c"],
            "type": ["click", "skip", "click", "click", "click"],
            "ts": [1, 2, 3, 4, 5],
            "scenario": [None, "shop", "home", None, "shop"],
        }
    )
    settings = load()
    recommender = Recommender(settings.models, weights=settings.events.weights)
    return DatasetBatches(from_frame(frame, name="x", source="x"), settings, recommender)


def test_each_row_has_its_kind_and_what_its_type_teaches() -> None:
    made = batches()
    assert [made.kinds[code] for code in made.kind] == KINDS
    assert made.kinds == list(dict.fromkeys(KINDS)), "by first appearance"
    batch = made.read(0, 5)
    actions = made.recommender.actions
    assert batch.action.tolist() == [actions.codes[kind] for kind in KINDS]
    assert actions.scenarios[batch.action].tolist() == [0, 1, 2, 0, 1]
    assert batch.weight.tolist() == made.weights(0, 5).tolist() == [1.0, -1.0, 1.0, 1.0, 1.0]
    assert np.array_equal(actions.weights[batch.action], batch.weight)


def test_an_item_that_the_catalogue_says_is_not_available_may_not_be_shown() -> None:
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["a", "b"], "type": ["click", "click"], "ts": [1, 2]})
    items = catalogue([{"item_id": "a", "available": False}, {"item_id": "b"}, {"item_id": "never"}])
    settings = load()
    made = DatasetBatches(
        from_frame(frame, name="x", source="x", items=items), settings, Recommender(settings.models)
    )
    made.read(0, 2)
    known = made.recommender.catalogue
    assert known.unavailable == {"a"}
    assert known.columns.available[known.slot_of[[known.number("a"), known.number("b")]]].tolist() == [0, 1]


def stream(n: int = 600) -> pl.DataFrame:
    """Clicks, ratings and dislikes of a few users; every fifth event comes again by its id, some users are erased."""
    rng = np.random.default_rng(5)
    rows: list[tuple[str, str | None, str, float | None, str, int]] = []
    for at in range(n):
        user, kind = f"u{rng.integers(9)}", str(rng.choice(["click", "rating", "skip"], p=[0.5, 0.4, 0.1]))
        if at % 97 == 96:
            rows.append((user, None, "erase", None, f"e{at}", 1000 * at))
        elif rows and at % 5 == 4:
            user, item, kind, value, event_id, _ = rows[-1 - int(rng.integers(4))]
            rows.append((user, item, kind, value, event_id, 1000 * at))
        else:
            value = float(rng.integers(1, 6)) if kind == "rating" else None
            rows.append((user, f"i{rng.integers(30)}", kind, value, f"e{at}", 1000 * at))
    return pl.DataFrame(rows, schema=["user", "item", "type", "value", "event_id", "ts"], orient="row")


def test_a_backtest_leaves_the_state_that_a_worker_leaves_byte_for_byte() -> None:
    """One partition, one list per event, the re-ranker off: with duplicates and erasures among the events."""
    settings = load({"models.max_items": 5000, "worker.one_list_per_event": True})
    frame = stream()
    offline = Backtest(
        from_frame(frame, name="x", source="x"), settings, None, transformer=False, seed=0, window_ms=None
    )
    offline.run(None)

    live = new_recommender(settings, seed=0)
    pipeline = Pipeline(settings, live, lambda _, users: [None] * len(users))
    records = [
        Read(event(user, item, kind, ts=ts, value=value, event_id=event_id), offset=offset)
        for offset, (user, item, kind, value, event_id, ts) in enumerate(frame.iter_rows())
    ]
    counts: Counter[str] = Counter()
    for start in range(0, len(records), 70):  # other cuts than the backtest's, which are not to matter
        counts += pipeline.process(records[start : start + 70], received_ms=0.0).counts

    assert counts["duplicate"] == offline.counts["dropped"] > 50
    assert counts["erased"] == offline.counts["erased"] == 6
    assert rows_of(offline.recommender) == rows_of(live)


def rows_of(recommender: Recommender) -> dict[str, dict[Any, bytes]]:
    """What a state would hold."""
    delta = recommender.take_dirty()
    return {
        "users": {user: row for _, user, row in delta.users if row is not None},
        "items": {key: row for key, row in delta.items if row is not None},
        "meta": dict(delta.meta),
    }
