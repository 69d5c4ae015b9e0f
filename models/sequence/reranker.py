"""A snapshot at work: users' vectors for batches of events, live and in backtests.

In: a snapshot, the user table as it is, event batches. Out: each event's user vector before and after it,
item vectors and biases. Never learns, and never holds what can't be computed again from the user table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.base import F32, I32, I64, Bool, EventBatch
from models.sequence.encode import Events, encode_block
from models.sequence.snapshot import Snapshot
from models.sequence.stored_events import RowsOf
from models.sequence.user_vectors import Plan, UserVectors
from models.state.users import UserTable
from models.vocabulary import Actions
from models.vocabulary import row_of as kind_row

CACHED_USERS = 20_000


class Reranker:
    """What the recommender asks of a snapshot.

    Attributes:
        item_vectors: float32 [V, d]; row 0 stands for items that the snapshot lacks.
        item_bias: float32 [V].
    """

    def __init__(
        self, snapshot: Snapshot, device: str | torch.device = "cpu", cached_users: int = CACHED_USERS
    ) -> None:
        """A snapshot on `device`; keys and values of `cached_users` users are kept, none with 0."""
        self.manifest = snapshot.manifest
        self.version = snapshot.version
        self.scale = snapshot.manifest.scale
        self.model = snapshot.model.to(device)
        self.item_vectors: F32 = snapshot.model.item_vectors().detach().cpu().numpy()
        self.item_bias: F32 = snapshot.model.bias.detach().cpu().numpy()
        self._row = {name: row for row, name in enumerate(snapshot.manifest.item_ids, 1)}
        self._action = {name: row for row, name in enumerate(snapshot.manifest.actions, 1)}
        self._vectors = UserVectors(self.model, self.scale, cached_users)

    def rows(self, item_ids: Sequence[str]) -> I32:
        """Row of each item, int32 [n]; -1 for one that the snapshot lacks."""
        row = self._row
        return np.array([row.get(i, -1) for i in item_ids], np.int32)

    def action_codes(self, names: Sequence[str]) -> I32:
        """Action row of each kind of event, int32 [n]; 0 for one that the snapshot lacks."""
        return np.array([kind_row(name, self._action) for name in names], np.int32)

    def encode_block(
        self,
        users: I64,
        events: Events,
        context: Events,
        offsets: I64,
        user_ids: Sequence[str] = (),  # noqa: ARG002 (for models that know users by name)
    ) -> tuple[F32, F32]:
        """The vectors [n, d] of each event's user before and after it (see `models.sequence.encode`)."""
        return encode_block(self.model, users, events, context, offsets, self.scale)

    # -- on the recommender's user table -----------------------------------------------------------------------
    def plan(
        self,
        users: UserTable,
        batch: EventBatch,
        row_of: I32,
        actions: Actions,
        wanted: Bool | None = None,
    ) -> Plan:
        """Take what is needed of the users as they are now; `row_of` [item numbers] gives each item's row.

        `wanted` [n] restricts the plan to some users: all of their events, and nobody else's.
        """
        return Plan(self._vectors, users, batch, self._rows_of(row_of, actions), wanted)

    def current(self, users: UserTable, slots: I32, row_of: I32, actions: Actions) -> F32:
        """The users' vectors as they are now, float32 [n, d]; zero for one without events."""
        return self._vectors.current(users, slots.astype(np.int64), self._rows_of(row_of, actions))

    def _rows_of(self, row_of: I32, actions: Actions) -> RowsOf:
        of_action = np.zeros(256, np.int32)
        for name, code in actions.codes.items():
            of_action[code] = kind_row(name, self._action)
        return RowsOf(row_of, of_action)
