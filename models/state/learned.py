"""Everything that is learned about items, and what is shared by all users, as one named tuple that kernels take.

The models of `models.online` own the parts; this says only which there are.
"""

from __future__ import annotations

from typing import NamedTuple

from models.base import F32, F64
from models.online.asymmetric_mf import AsymmetricMF
from models.online.blend import Blend
from models.online.covisit_journal import Words
from models.online.covisit_rows import Covisit
from models.online.popularity import Popularity
from models.state.announced import AnnouncedColumns
from models.state.catalogue import ItemColumns


class State(NamedTuple):
    """`S` item slots; users are in `models.state.users`."""

    items: ItemColumns
    announced: AnnouncedColumns  # told, not learned: it decides what may be explored, and nothing else
    popularity: Popularity
    here: Popularity  # the same in each scenario, with the half-life of the baseline: a column a scenario, from 1 up
    covisit: Covisit
    amf: AsymmetricMF
    mf_bias: F32  # [S] explicit MF
    mf: F32  # [S, factors]
    mf_mean: F64  # [2] mean rating, number of ratings
    blend: Blend
    totals: F64  # see `models.state.totals`
    journal: Words  # what `covisit` learned since the last commit
