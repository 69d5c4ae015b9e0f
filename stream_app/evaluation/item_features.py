"""What describes a data set's items beside their events: categories as columns, words as content.

In: a `Dataset`. Out: arrays and lists with a row an item code. Never looks at an event, but for the items that occur.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.base import F64
from models.family.contract import Content
from models.family.parts.descriptions import Description, content_of, embedding_of, tokens_of
from producers.columns import Dataset
from stream_app.batch.catalogue_feed import MAX_CATEGORIES, MAX_TITLE


def category_features(dataset: Dataset) -> F64 | None:
    """Which categories each item code has, float64 [items, categories]; None where there are none."""
    frame = dataset.items
    of_item = dict(zip(frame["item_id"].to_list(), frame["categories"].to_list(), strict=True))
    names = sorted({name for categories in of_item.values() for name in categories or []})
    if not names:
        return None
    column = {name: at for at, name in enumerate(names)}
    features = np.zeros((len(dataset.item_ids), len(names)))
    for row, item_id in enumerate(dataset.item_ids):
        for name in of_item.get(item_id) or []:
            features[row, column[name]] = 1.0
    return features


def descriptions(dataset: Dataset) -> dict[str, Description]:
    """What the data set says of its items, as the trainer would take it from the `items` topic."""
    known: dict[str, Description] = {}
    for item in dataset.items.iter_rows(named=True):
        kinds = (item["categories"] or ())[:MAX_CATEGORIES]
        title = (item["title"] or "")[:MAX_TITLE]
        given = {one["name"]: embedding_of(one["vector"]) for one in item["embeddings"] or ()}
        known[item["item_id"]] = Description(
            tokens_of(title, item["text"], kinds, item["tags"] or (), item["price"]),
            {name: vector for name, vector in given.items() if vector is not None},
        )
    return known


def content(dataset: Dataset, codes: Sequence[int]) -> Content | None:
    """The descriptions of these item codes as a model takes them; None where nothing is known of any item."""
    return content_of([dataset.item_ids[code] for code in codes], descriptions(dataset))
