"""What belongs to no single user or item, as one row of bytes: totals, the blend, the vocabulary; never pickle.

In: the learned state, with the names and numbers given so far. Out: MessagePack, and all of it back in its place.
"""

from __future__ import annotations

import msgspec
import numpy as np

from models.base import F32, F64, I64
from models.online import popularity
from models.state import totals
from models.state.catalogue import Catalogue
from models.state.learned import State
from models.vocabulary import Actions


class _Row(msgspec.Struct, frozen=True):
    totals: list[float]
    actions: list[str]
    next_number: int
    popularity_total: list[float]
    popularity_base: list[int]
    popularity_epochs: list[int]
    popularity_top: list[list[int]]
    mf_mean: list[float]
    blend_weight: list[list[float]]
    blend_square: list[list[float]]
    unavailable: list[str] = []  # of schema 5 or before; they have a row of their own since
    here_total: list[float] = []
    here_base: list[int] = []
    here_epochs: list[int] = []
    here_top: list[list[int]] = []
    blend_layer: list[list[float]] = []
    first_model: str | None = None  # schema 5 or before


def dump(state: State, actions: Actions, catalogue: Catalogue, first_model: str) -> bytes:
    """The row's bytes; `first_model` is the version of the first re-ranker that was used."""
    s, p, here = state, state.popularity, state.here
    number = np.append(s.items.number, np.int32(-1))
    met = len(np.trim_zeros(here.total, "b"))
    return msgspec.msgpack.encode(
        _Row(
            totals=s.totals.tolist(),
            actions=actions.names,
            next_number=catalogue.next_number,
            popularity_total=p.total.tolist(),
            popularity_base=p.base.tolist(),
            popularity_epochs=p.epochs.tolist(),
            popularity_top=number[p.top].tolist(),
            mf_mean=s.mf_mean.tolist(),
            blend_weight=s.blend.weight.tolist(),
            blend_square=s.blend.square.tolist(),
            here_total=here.total[:met].tolist(),
            here_base=here.base[:met].tolist(),
            here_epochs=here.epochs[:met].tolist(),
            here_top=number[here.top[:met]].tolist(),
            blend_layer=[part.ravel().tolist() for part in _layer(s)],
            first_model=first_model,
        )
    )


def _layer(state: State) -> tuple[F32 | F64, ...]:
    b = state.blend
    return b.hidden, b.hidden_square, b.out, b.out_square, b.lessons


def load(data: bytes, state: State, actions: Actions, catalogue: Catalogue) -> tuple[tuple[I64, I64], str]:
    """Put a row back.

    Returns:
        Numbers of the most popular items [half-lives, TOP], and of those in each scenario: slots are not known yet. And
        `first_model`.

    Raises:
        ValueError: other settings wrote it.
        msgspec.MsgspecError: it is no such row.
    """
    s, p, here = state, state.popularity, state.here
    row = msgspec.msgpack.decode(data, type=_Row)
    if len(row.totals) != len(s.totals) or len(row.popularity_total) != len(p.total):
        raise ValueError(
            "the stored totals have other columns than these settings: other settings wrote them"
        )
    actions.restore(row.actions)
    for item_id in row.unavailable:
        catalogue.set_item(item_id, available=False)
    s.totals[:] = row.totals
    p.total[:], p.base[:], p.epochs[:] = row.popularity_total, row.popularity_base, row.popularity_epochs
    met = len(row.here_total)
    here.total[:met], here.base[:met], here.epochs[:met] = row.here_total, row.here_base, row.here_epochs
    s.mf_mean[:] = row.mf_mean
    # a row of schema 4 or before has no column for the last feature, SLIM: that one starts anew
    columns = len(row.blend_weight[0])
    if columns not in {s.blend.weight.shape[1], s.blend.weight.shape[1] - 1}:
        raise ValueError("the stored blend has other features than these settings: other settings wrote it")
    s.blend.weight[:, :columns], s.blend.square[:, :columns] = row.blend_weight, row.blend_square
    for part, stored in zip(_layer(s), row.blend_layer, strict=False):  # none: schema 4 or before
        part[:] = np.reshape(stored, part.shape)
    catalogue.next_number = row.next_number
    here_top = np.asarray(row.here_top, np.int64).reshape(met, popularity.TOP)
    if row.first_model is None:  # nobody knows which model its figures are of
        s.totals[list(totals.OF_THE_SAMPLE)] = 0.0
    return (np.asarray(row.popularity_top, np.int64), here_top), row.first_model or ""
