"""Hybrids: other models of the family at work together (Burke: Hybrid Recommender Systems, UMUAI 2002).

`hybrid-weighted` adds up what its members say, `hybrid-switching` asks one of them, by how long the history is, and
`hybrid-cascade` lets one retrieve and another put in order. Which they are is a setting; any model of the registry can
be one, a hybrid too.

Members' scores have nothing in common but their order, so orders are what is combined: an item's reciprocal rank,
1 / (60 + rank), among all items of the catalogue (Cormack, Clarke, Büttcher: Reciprocal Rank Fusion, SIGIR 2009), so a
score does not depend on which items are asked about. Items with the same score share their mean rank: a member without
an opinion moves nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from models.base import F32, F64, I32, Bool
from models.config import Section
from models.family.contract import NOBODY, Arrays, Content, Interactions, Model, Queries, chosen
from models.family.parts.taken import newest
from models.family.registry import MODELS, make, model_class

FLAT = 60.0
"""How little the first ranks count more than the next (Cormack et al. 2009)."""


class Member(Section):
    """A model of the registry, and how it is set; what is wrong with it is told by its place in the hybrid."""

    model: str
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("model")
    @classmethod
    def _there(cls, model: str) -> str:
        if model not in MODELS:
            raise ValueError(f"there is no model {model!r}; there are {', '.join(MODELS)}")
        return model

    @field_validator("settings")
    @classmethod
    def _its_own(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if settings and "model" in info.data:
            model_class(info.data["model"]).Settings(**settings)
        return settings


class WeightedMember(Member):
    """Its reciprocal ranks count this much."""

    weight: float = Field(1.0, gt=0)


class SwitchedMember(Member):
    """It is asked about histories of at least so many different items that are known."""

    least: int = Field(0, ge=0)


class Hybrid(Model):
    """Members that all learn the same; how they are asked is what hybrids differ in."""

    members: tuple[Model, ...]

    def __init__(
        self, settings: Section | None = None, *, seed: int = 0, content: Content | None = None
    ) -> None:
        super().__init__(settings, seed=seed, content=content)
        self.members = tuple(
            make(one.model, one.settings, seed=seed, content=content) for one in self.described()
        )
        self.uses_content = any(member.uses_content for member in self.members)

    @abstractmethod
    def described(self) -> tuple[Member, ...]:
        """The members, as the settings name them."""

    def fit(self, events: Interactions) -> None:
        for member in self.members:
            member.fit(events)
        self._count()

    def partial_fit(self, events: Interactions) -> None:
        for member in self.members:
            member.partial_fit(events)
        self._count()

    def know(self, n_items: int) -> None:
        super().know(n_items)
        for member in self.members:
            member.know(n_items)

    def arrays(self) -> Arrays:
        return {
            f"{at}/{name}": array
            for at, member in enumerate(self.members)
            for name, array in member.arrays().items()
        }

    def restore(self, arrays: Arrays) -> None:
        for at, member in enumerate(self.members):
            member.n_users, member.n_items = self.n_users, self.n_items
            own = f"{at}/"
            member.restore(
                {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}
            )

    def _count(self) -> None:
        self.n_users, self.n_items = self.members[0].n_users, self.members[0].n_items


class WeightedSettings(Section):
    """Whose ranks are added up."""

    members: tuple[WeightedMember, ...] = Field(
        (
            WeightedMember(model="ials"),
            WeightedMember(model="item-item", weight=0.5),
            WeightedMember(model="user-user", weight=0.5),
        ),
        min_length=1,
    )


class WeightedHybrid(Hybrid):
    """The weighted sum of the members' reciprocal ranks (Burke 2002, weighted; Cormack et al. 2009)."""

    name = "hybrid-weighted"
    Settings: ClassVar[type[Section]] = WeightedSettings
    settings: WeightedSettings

    def described(self) -> tuple[Member, ...]:
        return self.settings.members

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        total: F64 = np.zeros((len(queries), self.n_items))
        for one, member in zip(self.settings.members, self.members, strict=True):
            total += one.weight * reciprocal_ranks(member.score(queries))
        return chosen(np.where(total > 0.0, total, -np.inf).astype(np.float32), items)


class SwitchingSettings(Section):
    """Who is asked from which length of history on."""

    members: tuple[SwitchedMember, ...] = (
        SwitchedMember(model="popularity"),
        SwitchedMember(model="item-item", least=1),
        SwitchedMember(model="ials", least=5),
    )

    @field_validator("members")
    @classmethod
    def _somebody_is_always_asked(cls, members: tuple[SwitchedMember, ...]) -> tuple[SwitchedMember, ...]:
        least = [one.least for one in members]
        if 0 not in least or len(set(least)) < len(least):
            raise ValueError("one member needs least = 0, for empty histories, and each a least of its own")
        return members


class SwitchingHybrid(Hybrid):
    """One member by the length of the history: what is popular for the coldest (Burke 2002, switching)."""

    name = "hybrid-switching"
    Settings: ClassVar[type[Section]] = SwitchingSettings
    settings: SwitchingSettings

    def described(self) -> tuple[Member, ...]:
        return self.settings.members

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        known = np.bincount(newest(queries, self.n_items).row, minlength=len(queries))
        least = np.array([one.least for one in self.settings.members])
        # the highest bound that the history reaches
        member = np.argmax(np.where(least <= known[:, None], least, -1), axis=1)
        scores = np.empty((len(queries), self.n_items if items is None else items.shape[1]), np.float32)
        for at in np.unique(member).tolist():
            rows = np.flatnonzero(member == at)
            scores[rows] = self.members[at].score(queries.take(rows), None if items is None else items[rows])
        return scores


class CascadeSettings(Section):
    """Who retrieves, and who puts in order how many."""

    retriever: Member = Member(model="item-item")
    ranker: Member = Member(model="ials")
    depth: int = Field(100, ge=1, description="items that the ranker puts in order")


class CascadeHybrid(Hybrid):
    """The first items of one member, put in order by another (Burke 2002, cascade).

    A score is a place in the whole order: `depth` for the first item, one less for each next one, so that what the
    retriever leaves to itself is at 0 and below. Of lists without the items that are blocked, the ranker sees as many.
    """

    name = "hybrid-cascade"
    Settings: ClassVar[type[Section]] = CascadeSettings
    settings: CascadeSettings

    def described(self) -> tuple[Member, ...]:
        return self.settings.retriever, self.settings.ranker

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        order, places = self.retrieve(queries, self.n_items)
        scores = np.full((len(queries), self.n_items), -np.inf, np.float32)
        row, place = np.nonzero(order != NOBODY)
        scores[row, order[row, place]] = places[row, place]
        return chosen(scores, items)

    def retrieve(self, queries: Queries, k: int, blocked: Bool | None = None) -> tuple[I32, F32]:
        retriever, ranker = self.members
        depth = self.settings.depth
        found, _ = retriever.retrieve(queries, max(k, depth), blocked)
        first = found[:, :depth]
        nobody = first == NOBODY
        judged = ranker.score(queries, np.where(nobody, 0, first).astype(np.int32))
        # NOBODY behind what the ranker has no opinion of; where the ranker is undecided, the retriever's order
        order = np.lexsort((-judged, nobody), axis=1)
        found[:, :depth] = np.take_along_axis(first, order, axis=1)
        places = np.broadcast_to((depth - np.arange(found.shape[1])).astype(np.float32), found.shape)
        return found[:, :k], np.where(found == NOBODY, np.float32(-np.inf), places)[:, :k]


def reciprocal_ranks(scores: F32) -> F64:
    """1 / (60 + rank) of each item in its row, the best having rank 1; 0 where the score is -inf.

    >>> (1.0 / reciprocal_ranks(np.array([[9.0, 7.0, 7.0, 8.0]], np.float32))).round(1).tolist()
    [[61.0, 63.5, 63.5, 62.0]]
    """
    n, width = scores.shape
    order = np.argsort(-scores, axis=1, kind="stable")
    held = np.take_along_axis(scores, order, axis=1)
    differs = held[:, 1:] != held[:, :-1]
    edge = np.ones((n, 1), np.bool_)
    place = np.arange(width)
    # of a run of equals the first place and the last one
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), place, 0), axis=1)
    last = np.where(np.hstack([differs, edge]), place, width)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    shared = np.where(np.isneginf(held), 0.0, 1.0 / (FLAT + 1.0 + (first + last) / 2.0))
    found: F64 = np.empty((n, width))
    np.put_along_axis(found, order, shared, axis=1)
    return found
