"""Outgoing records: lists of item numbers → values on the `recommendations` topic.

In: the recommender's `Lists`, and what is known of each user that one was made for. Out: `Outgoing`,
whose value is the encoded `Recommendation`, or None for the tombstone of an erased user. The clock is
passed in. Never sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np

from models.base import F64, Lists, Served
from models.pipeline.recommender import EXPLORATION
from stream_app.events import Because, Recommendation, RecommendedItem

EVENT, CATCH_UP, REFRESH, ERASED = "event", "catch-up", "refresh", "erase"
"""Why a record was made. CATCH_UP: the worker lags, and one list stands for more events than usual."""

NOT_RERANKED = ", re-ranker skipped"
"""What is added to the reason of a list that was made without the re-ranker although there is one."""


@dataclass(slots=True)
class Outgoing:
    """A record for `recommendations`.

    Attributes:
        append_ms: when the broker appended each event that this list is the first to show, in log order, None for one
            whose topic does not stamp records on append; empty for a refresh.
        received_ms: the worker's clock when the events came.
        served: what the user is shown once this is published; None where they are taken to be shown it already.
    """

    key: bytes
    value: bytes | None
    user_id: str
    revision: int
    reason: str
    append_ms: list[int | None]
    received_ms: float
    served: Served | None = None


@dataclass(slots=True)
class Progress:
    """How far a user's events are known, as of one list.

    Attributes:
        positions: newest offset of each input topic, -1 for none.
        events: accepted so far.
        event_ts: newest event time of the accepted events; a late one takes nothing back.
        append_ms: of the accepted events since the last list, as in `Outgoing`.
    """

    partition: int
    positions: list[int]
    events: int
    event_ts: int
    append_ms: list[int | None] = field(default_factory=list)

    def shown(self) -> Progress:
        """As it stands for a list; what comes after the list counts anew."""
        at = Progress(self.partition, self.positions.copy(), self.events, self.event_ts, self.append_ms)
        self.append_ms = []
        return at


class Names(Protocol):
    """What gives an item's id back; `models.state.catalogue.Catalogue` does."""

    def id_of(self, number: int) -> str | None: ...


class RecordWriter:
    """Makes the records.

    Args:
        sources: names for `Lists.source`.
        topics: the input topics, in the order of their index.
        catalogue: item number → id.
        title: item id → title, "" for an item without.
        clock: now, in ms.
    """

    def __init__(
        self,
        sources: Sequence[str],
        topics: Sequence[str],
        catalogue: Names,
        title: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self.sources = tuple(sources)
        self._exploration = self.sources.index(EXPLORATION) if EXPLORATION in self.sources else -1
        self.topics = tuple(topics)
        self.catalogue = catalogue
        self.title = title
        self.clock = clock
        self.arm = "default"
        self._encode = msgspec.json.Encoder().encode

    def lists(
        self,
        lists: Lists,
        users: Sequence[str],
        progress: Sequence[Progress],
        *,
        reason: str,
        received_ms: float,
        models: dict[str, str],
    ) -> list[Outgoing]:
        """One record for each list.

        Args:
            users: whose list it is, one a row of `lists`.
            progress: what the list rests on, one a row.
            received_ms: when the events came; `latency_ms` counts from here.
            models: versions of the snapshots that had a say.
        """
        now = self.clock()
        names = _BatchNames(self.sources, self.catalogue, self.title)
        rows = zip(
            users, progress, lists.revision.tolist(), lists.items.tolist(),
            self._rounded(lists).tolist(), lists.source.tolist(), lists.because.tolist(), strict=True,
        )  # fmt: skip
        out = []
        for user, known, revision, numbers, scores, sources, because in rows:
            record = Recommendation(
                user_id=user,
                revision=revision,
                items=names.items(numbers, scores, sources, because),
                sources={
                    f"{topic}-{known.partition}": offset
                    for topic, offset in zip(self.topics, known.positions, strict=False)
                    if offset >= 0
                },
                events=known.events,
                event_ts=known.event_ts,
                published_ts=int(now),
                latency_ms=round(now - received_ms, 3),
                models=models,
                arm=self.arm,
                reason=reason,
            )
            value = self._encode(record)
            out.append(Outgoing(user.encode(), value, user, revision, reason, known.append_ms, received_ms))
        return out

    def _rounded(self, lists: Lists) -> F64:
        """Scores to the sixth decimal; chances of the lot to six digits, as they are divided by."""
        scores = lists.scores.astype(np.float64)
        rounded: F64 = np.round(scores, 6)
        for at in zip(*np.nonzero(lists.source == self._exploration), strict=True):
            rounded[at] = float(f"{scores[at]:.6g}")
        return rounded

    def tombstone(self, user: str, append_ms: int | None, received_ms: float) -> Outgoing:
        """The record that takes an erased user's list away."""
        return Outgoing(user.encode(), None, user, -1, ERASED, [append_ms], received_ms)


class _BatchNames:
    """Ids and reasons in words, each made once for all the lists of a batch."""

    def __init__(self, sources: tuple[str, ...], catalogue: Names, title: Callable[[str], str]) -> None:
        self.sources = sources
        self.catalogue = catalogue
        self.title = title
        self._ids: dict[int, str | None] = {-1: None}
        self._because: dict[tuple[int, int], Because] = {}

    def items(
        self, numbers: list[int], scores: list[float], sources: list[int], because: list[int]
    ) -> list[RecommendedItem]:
        """The items of one list; numbers of -1 only fill it up."""
        ids, reasons, items = self._ids, self._because, []
        for number, score, source, cause in zip(numbers, scores, sources, because, strict=True):
            item_id = ids[number] if number in ids else self._id(number)
            if item_id is None:
                continue
            why = reasons.get((cause, source))
            if why is None:
                why = reasons[cause, source] = self._words(cause, self.sources[source])
            items.append(
                RecommendedItem(
                    item_id=item_id,
                    score=score,
                    source=self.sources[source],
                    because=why,
                    propensity=score if self.sources[source] == EXPLORATION else None,
                )
            )
        return items

    def _id(self, number: int) -> str | None:
        item_id = self._ids[number] = self.catalogue.id_of(number)
        return item_id

    def _words(self, cause: int, source: str) -> Because:
        item_id = self._id(cause) if cause >= 0 else None
        if source == EXPLORATION:
            return Because(text="new here")
        if item_id is None:
            popular = source.startswith("popularity")
            return Because(text="popular now" if popular else "fits what you did lately")
        title = self.title(item_id)
        return Because(
            item_id=item_id, text=f'because of "{title}"' if title else f"because of item {item_id}"
        )
