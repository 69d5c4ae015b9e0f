"""The learned state grown to a catalogue that has room for more items.

In: the state as it was, and the catalogue's new columns. Out: the same state with empty rows after it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.base import F32, F64, I32, I64, U8
from models.online.covisit_rows import Covisit
from models.online.popularity import Popularity
from models.pipeline.candidates import Reranked
from models.state.catalogue import ItemColumns
from models.state.columns import grown
from models.state.learned import State


class _CovisitRows(NamedTuple):
    """The columns of `Covisit` that have a row for each item slot."""

    at: I64
    size_class: I32
    n: I32
    row_sum: F64
    column_sum: F64
    column_factor: F32
    stale: U8


class _MFRows(NamedTuple):
    bias: F32
    vector: F32


def fitted(state: State, items: ItemColumns) -> State:
    """The state with a row for each slot of `items`, which become its own."""
    slots = len(items.number)
    mf = grown(_MFRows(state.mf_bias, state.mf), slots)
    return state._replace(
        items=items,
        popularity=popularity_with(state.popularity, slots),
        here=popularity_with(state.here, slots),
        covisit=covisit_with(state.covisit, slots),
        amf=grown(state.amf, slots),
        mf_bias=mf.bias,
        mf=mf.vector,
    )


def popularity_with(table: Popularity, slots: int) -> Popularity:
    """Popularity with room for so many slots."""
    mass = np.zeros((slots, table.mass.shape[1]), order="F")
    mass[: len(table.mass)] = table.mass
    return table._replace(mass=mass)


def covisit_with(table: Covisit, slots: int) -> Covisit:
    """Co-visitation with room for so many slots; the new ones have no row."""
    columns = _CovisitRows(*(getattr(table, name) for name in _CovisitRows._fields))
    return table._replace(**grown(columns, slots, {"size_class": -1, "stale": 1})._asdict())


def with_slots(reranked: Reranked, slots: int) -> Reranked:
    """The re-ranker's item side for so many slots; the new ones have no row."""
    row_of = np.full(slots, -1, np.int32)
    row_of[: len(reranked.row_of)] = reranked.row_of
    return reranked._replace(row_of=row_of)
