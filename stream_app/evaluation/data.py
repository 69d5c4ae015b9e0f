"""A data set as the model family takes it: interactions, content, and what lists' diversity is measured on.

In: a `Dataset` and which of its events count. Out: a `Stream`. Ratings are clamped to the scale of the settings, and
those that had to be are counted; an erasure, a type that does not teach positively and a repeated event id are left out
and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.base import F32, F64, Bool
from models.family.contract import Content, Interactions
from models.family.protocols import frequent
from producers.columns import Dataset
from stream_app.batch.careful import ERASE, RATING
from stream_app.evaluation.item_features import category_features, content
from stream_app.settings import EventSettings

SKETCH = 64


@dataclass(frozen=True, slots=True)
class Stream:
    """What all models of an evaluation are given.

    Attributes:
        name: for people; sha256: of the data set, before anything was left out.
        events: in the order of the data set, items numbered from 0 without gaps.
        content: words of each item, or None.
        vectors: a description of each item, float64 [items, d]; `described_by` says what it was made of.
        left_out: why events of the data set are not among `events`, and how many.
        scale: the lowest and the highest rating.
        clamped: ratings that lay outside of it.
        spread: the lowest and the highest rating of the data set; None without any.
    """

    name: str
    sha256: str
    events: Interactions
    content: Content | None
    vectors: F64
    described_by: str
    left_out: dict[str, int] = field(default_factory=dict)
    scale: tuple[float, float] = (1.0, 5.0)
    clamped: int = 0
    spread: tuple[float, float] | None = None

    @property
    def users(self) -> int:
        """Users with an event."""
        return len(np.unique(self.events.user))

    @property
    def items(self) -> int:
        """Items with an event: the catalogue that is ranked."""
        return len(self.vectors)

    @property
    def described(self) -> int:
        """Items that something is known of beside their events."""
        if self.content is None:
            return 0
        words = np.array([bool(tokens) for tokens in self.content.tokens], np.bool_)
        vectors = self.content.vectors
        return int((words if vectors is None else words | vectors.any(axis=1)).sum())


def stream(
    dataset: Dataset, settings: EventSettings, *, limit: int | None = None, min_item_events: int = 1
) -> Stream:
    """The first `limit` events that teach, of items with at least so many of them."""
    n = len(dataset) if limit is None else min(limit, len(dataset))
    kind = dataset.type[:n]
    erases = np.array([name == ERASE for name in dataset.types], np.bool_)[kind]
    weight = [settings.weight_of(name) for name in dataset.types]
    disliked = ~erases & (np.array(weight) <= 0.0)[kind]
    again = ~erases & ~disliked & _repeated_ids(dataset, n)
    kept = ~(erases | disliked | again)
    rated = np.array([name == RATING for name in dataset.types], np.bool_)[kind]
    scale = settings.rating_low, settings.rating_high
    given = np.where(rated, dataset.value[:n], np.nan)
    ratings: F32 = np.clip(given, *scale).astype(np.float32)
    there = given[kept & np.isfinite(given)]
    taught = Interactions(
        dataset.user[:n], dataset.item[:n], ratings, dataset.ts[:n], kind.astype(np.int32),
        dataset.scenario[:n] + 1,
    ).take(kept)  # fmt: skip
    events, codes = frequent(taught, min_item_events)
    features = category_features(dataset)
    return Stream(
        name=dataset.name,
        sha256=dataset.sha256,
        events=events,
        content=content(dataset, codes.tolist()),
        vectors=_sketch(events) if features is None else features[codes],
        described_by="the items' users" if features is None else "categories",
        left_out={
            "an erasure": int(erases.sum()),
            "a type that does not teach positively": int(disliked.sum()),
            "a repeated event id": int(again.sum()),
            f"an item with fewer than {min_item_events} events": len(taught) - len(events),
        },
        scale=scale,
        clamped=int(((there < scale[0]) | (there > scale[1])).sum()),
        spread=(float(there.min()), float(there.max())) if len(there) else None,
    )


def _sketch(events: Interactions) -> F64:
    """Who had each item, as a sum of random signs of its users: cosines of these are near those of the user sets."""
    users, items = int(events.user.max(initial=-1)) + 1, int(events.item.max(initial=-1)) + 1
    signs = 2.0 * np.random.Generator(np.random.SFC64(0)).integers(0, 2, (users, SKETCH)) - 1.0
    sketch = np.zeros((items, SKETCH))
    np.add.at(sketch, events.item, signs[events.user])
    return sketch


def _repeated_ids(dataset: Dataset, n: int) -> Bool:
    repeated = np.zeros(n, np.bool_)
    if dataset.event_id is not None:
        seen: set[tuple[int, str]] = set()
        for row, (user, event_id) in enumerate(
            zip(dataset.user[:n].tolist(), dataset.event_id, strict=False)
        ):
            if event_id is not None:
                repeated[row] = (user, event_id) in seen
                seen.add((user, event_id))
    return repeated
