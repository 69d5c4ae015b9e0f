"""The contract of the family: what every model of the field learns from, what it is asked, and what it answers.

In: interactions and users' histories as columns of codes. Out: a score for every item, the best of them, a folder on
disk. Codes are small integers from 0 up, given by whoever reads the data; a model grows with the codes that it meets.

A model is asked with the user's *history*, not only their code: what the user did a moment ago counts before anything
was learned from it. Models of the user's code alone (factorisations) ignore the history; models of the history alone
(sequence models) ignore the code; so both are judged by one program, on fresh users too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from models.base import F32, I32, I64, Bool
from models.config import Section

Arrays = dict[str, npt.NDArray[Any]]
NOBODY = -1
"""Fills a history that is shorter than the others, in front; and a list that is short of items, at its end."""
NOT_GIVEN: I32 = np.zeros(0, np.int32)
"""Stands for a column of zeros of whatever length is right."""
COLUMNS = ("user", "item", "value", "ts", "action", "scenario")
"""Of `Interactions`, in their order."""


@dataclass(frozen=True, slots=True)
class Interactions:
    """Events that teach, oldest first, one row each.

    Attributes:
        user, item: codes, int32 [n].
        value: the rating, float32 [n]; NaN where there is none.
        ts: event time in ms UTC, int64 [n].
        action, scenario: codes of what was done and of where (a domain, a surface), int32 [n]; all 0 where not given.
    """

    user: I32
    item: I32
    value: F32
    ts: I64
    action: I32 = field(default_factory=lambda: NOT_GIVEN)
    scenario: I32 = field(default_factory=lambda: NOT_GIVEN)

    def __post_init__(self) -> None:
        for name in ("action", "scenario"):
            if getattr(self, name) is NOT_GIVEN:
                object.__setattr__(self, name, np.zeros(len(self.user), np.int32))

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: Any) -> Interactions:
        """The rows at `index` (a slice, a mask or row numbers)."""
        return Interactions(*(getattr(self, name)[index] for name in COLUMNS))


@dataclass(frozen=True, slots=True)
class Queries:
    """Users who each want a list, with what they did so far, one row each.

    Attributes:
        user: code, int32 [n]; one that the model has not met is a new user.
        items: codes of the history, int32 [n, L], oldest first; NOBODY fills in front.
        values: ratings of the history, float32 [n, L]; NaN where there is none.
        ts: event times of the history in ms, int64 [n, L]; 0 in front.
        actions, scenarios: codes of the history's events, int32 [n, L]; all 0 where not given.
    """

    user: I32
    items: I32
    values: F32
    ts: I64
    actions: I32 = field(default_factory=lambda: NOT_GIVEN)
    scenarios: I32 = field(default_factory=lambda: NOT_GIVEN)

    def __post_init__(self) -> None:
        for name in ("actions", "scenarios"):
            if getattr(self, name) is NOT_GIVEN:
                object.__setattr__(self, name, np.zeros(self.items.shape, np.int32))

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: Any) -> Queries:
        """The rows at `index`."""
        return Queries(
            self.user[index],
            self.items[index],
            self.values[index],
            self.ts[index],
            self.actions[index],
            self.scenarios[index],
        )


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of items beside the events, one row an item code.

    Attributes:
        tokens: words, categories and tags of each item; empty for an item without.
        vectors: ready-made embeddings (text, image, audio), float32 [items, d]; a row of zeros describes nothing.
    """

    tokens: list[list[str]] = field(default_factory=list)
    vectors: F32 | None = None

    def __len__(self) -> int:
        return max(len(self.tokens), 0 if self.vectors is None else len(self.vectors))


class Model(ABC):
    """One model: a `Ranker` by `score`, a `Retriever` by `retrieve`.

    Args:
        settings: of the class's `Settings`; None for the defaults.
        seed: of everything that is drawn.
        content: what is known of items; None for nothing.

    Attributes:
        name: as in `models.family.registry`.
        uses_content: whether what is known of items changes anything; of a hybrid its members say it.
        n_users, n_items: codes below these are known; content counts as knowing an item.
        checkpoints: folder for training that is under way, of models that can go on after a kill; None keeps nothing.
        resumed_from: steps of the last training that came from a checkpoint and were not made again.
    """

    name: ClassVar[str]
    uses_content: bool = False
    Settings: ClassVar[type[Section]] = Section
    checkpoints: Path | None = None
    resumed_from: int = 0

    def __init__(
        self, settings: Section | None = None, *, seed: int = 0, content: Content | None = None
    ) -> None:
        self.settings = self.Settings() if settings is None else settings
        self.seed = seed
        self.content = content
        self.n_users = 0
        self.n_items = 0 if content is None else len(content)

    @abstractmethod
    def fit(self, events: Interactions) -> None:
        """Forget everything, and learn from all of `events`."""

    @abstractmethod
    def partial_fit(self, events: Interactions) -> None:
        """Go on learning from events that came after all those before; they may bring new users and items."""

    def know(self, n_items: int) -> None:
        """Know so many items, those without an event by their content alone; nothing is learned."""
        self.n_items = max(self.n_items, n_items)

    @abstractmethod
    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        """How well items go with each query; higher is better, -inf for "no opinion, put it last".

        Args:
            items: item codes below `n_items`, int32 [n, c], whose scores are wanted; None for all items.

        Returns:
            float32 [n, c], or [n, n_items]. A score depends on its query and its item alone: not on the other
            queries, nor on the other items. Nothing is learned, and no entry is made for unknown codes.
        """

    def retrieve(self, queries: Queries, k: int, blocked: Bool | None = None) -> tuple[I32, F32]:
        """The k best items of each query: codes and scores [n, k], best first, ties to the lower code.

        Args:
            blocked: items that may not be listed, bool [n, n_items].

        A row that is short of items (blocked ones, or those of score -inf) ends in NOBODY and -inf.
        """
        scores = self.score(queries)
        if blocked is not None:
            scores = np.where(blocked, np.float32(-np.inf), scores)
        return best(scores, k)

    @abstractmethod
    def arrays(self) -> Arrays:
        """Everything learned, by name; copies or views, for `models.family.storage`."""

    @abstractmethod
    def restore(self, arrays: Arrays) -> None:
        """Take back what `arrays` gave; `n_users` and `n_items` are set already. ValueError where shapes don't fit."""


class Factored(ABC):
    """What a model can do beside whose scores are products: `embed(queries) @ vectors.T + biases`."""

    @abstractmethod
    def factors(self) -> tuple[F32, F32]:
        """Vectors [n_items, d] and biases [n_items] of the items, float32."""

    @abstractmethod
    def embed(self, queries: Queries) -> F32:
        """The queries' side, float32 [n, d]."""


class RatingModel(Model):
    """A model that also says which rating a user would give."""

    @abstractmethod
    def rating(self, queries: Queries, of: I64, item: I32) -> F32:
        """The expected rating of items by the users of queries, float32 [m]; NaN for "no idea".

        Args:
            of: row of the queries, int64 [m].
            item: code, int32 [m]; unknown users and items are answered with what is known without them.
        """


class ActionModel(Model):
    """A model that also says what a user would do next, whatever the item."""

    @abstractmethod
    def actions(self, queries: Queries) -> F32:
        """Probability of each action code for each query's next event, float32 [n, codes]; NaN for "no idea"."""


def best(scores: F32, k: int) -> tuple[I32, F32]:
    """The k highest of each row: columns and scores [n, k], best first, ties to the lower column.

    >>> best(np.array([[1.0, 3.0, 3.0], [-np.inf, 0.0, -np.inf]], np.float32), 2)[0].tolist()
    [[1, 2], [1, -1]]
    """
    n, width = scores.shape
    kept = min(k, width)
    columns = np.full((n, k), NOBODY, np.int32)
    values = np.full((n, k), -np.inf, np.float32)
    if kept:
        bound = -np.partition(-scores, kept - 1, axis=1)[:, kept - 1 : kept]
        above = scores > bound
        room = kept - above.sum(1, keepdims=True)
        tied = scores == bound
        chosen = above | (tied & (np.cumsum(tied, axis=1) <= room))
        found = np.nonzero(chosen)[1].reshape(n, kept)
        held = np.take_along_axis(scores, found, 1)
        order = np.argsort(-held, axis=1, kind="stable")
        columns[:, :kept] = np.take_along_axis(found, order, 1)
        values[:, :kept] = np.take_along_axis(held, order, 1)
        columns[values == -np.inf] = NOBODY
    return columns, values


def chosen(scores: F32, items: I32 | None) -> F32:
    """Of scores for all items [n, n_items], those that were asked for: for models that score everything at once."""
    return scores if items is None else np.take_along_axis(scores, items, axis=1)
