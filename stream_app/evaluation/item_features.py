"""What describes a data set's items beside their events: categories as columns, words as content.

In: a `Dataset`. Out: arrays and lists with a row an item code. Never looks at an event, but for the items that occur.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from models.base import F64
from models.family.contract import Content
from producers.columns import Dataset

WORD = re.compile(r"[^\W_]+")


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


def content(dataset: Dataset, codes: Sequence[int]) -> Content | None:
    """Words of the title, lower-cased, and categories, of these item codes; None where nothing is known of any item.

    A category is one token, marked as one, so that a film called "Drama" is not taken for a drama.
    """
    frame = dataset.items
    of_item = {
        item_id: [
            *(word.lower() for word in WORD.findall(title or "")),
            *(f"category:{name.lower()}" for name in categories or []),
        ]
        for item_id, title, categories in frame.select("item_id", "title", "categories").iter_rows()
    }
    tokens = [of_item.get(dataset.item_ids[code], []) for code in codes]
    return Content(tokens) if any(tokens) else None
