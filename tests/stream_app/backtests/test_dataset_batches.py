"""A data set's rows as the batches that a worker would make of them."""

from __future__ import annotations

import numpy as np
import polars as pl

from models.pipeline.recommender import Recommender
from models.vocabulary import kind_of
from producers.columns import from_frame
from stream_app.backtests.dataset_batches import DatasetBatches
from stream_app.settings import load

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
