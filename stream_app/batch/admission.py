"""Brings the users of a batch into memory, before anything is learned from it.

In: decoded events. Out: how many of them can be dealt with, and every user of those in memory, with their
row from the state or as a new user. Makes room by evicting users without uncommitted changes; never
evicts others, and never loads the row of a user whose erasure no commit has taken yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from stream_app.batch.decode import Decoded

EVICTED_SHARE = 50  # at least 1/50 of the table at once: finding the oldest costs a pass over it


class Admission:
    """Who is in memory.

    Args:
        users: the recommender's user table.
        load_users: (partition, user ids) → their rows in the state, None for those without.
        partitions: how many the input topics have. A user without a row in one is looked for in the others:
            producers with different partitioners would otherwise give a user two rows.
    """

    def __init__(
        self, users: Any, load_users: Callable[[int, list[str]], list[bytes | None]], partitions: int
    ) -> None:
        self.users = users
        self.load_users = load_users
        self.partitions = partitions
        self._erased: set[str] = set()

    def admit(self, decoded: Decoded) -> int:
        """Bring in the users of a batch.

        Returns:
            The number of events, from the first, whose users all fit. When it is not all of them, nobody was
            admitted: bring a batch of so many, or commit first.
        """
        if self._erased and not self.users.dirty_bytes():
            self._erased.clear()  # a commit has taken the erasures: the state no longer has those rows
        missing = self._missing(decoded)
        while (short := len(missing) - self.users.room()) > 0:
            self._touch(decoded)
            if not self.users.evict(max(short, len(self.users) // EVICTED_SHARE)):
                room: int = self.users.room()
                return list(missing.values())[room]
            missing = self._missing(decoded)
        by_partition = defaultdict(list)
        for user, row in missing.items():
            by_partition[decoded.lane[row].partition].append(user)
        for partition, users in by_partition.items():
            self._bring(partition, users)
        return len(decoded)

    def readmit(self, user: str, partition: int) -> int:
        """The slot of a user who comes back within the batch that erased them."""
        self._erased.discard(user)
        slot: int = self.users.admit(user, partition, None)
        return slot

    def erase(self, user: str) -> None:
        """Forget a user."""
        self.users.erase(self.users.slot(user))
        self._erased.add(user)

    def _missing(self, decoded: Decoded) -> dict[str, int]:
        """Users who are not in memory → their first event."""
        slots, missing = self.users.slots, {}
        for row, user in enumerate(decoded.user):
            if user not in slots and user not in missing:
                missing[user] = row
        return missing

    def _touch(self, decoded: Decoded) -> None:
        """Let the users of this batch be the last to be evicted."""
        slots, used = self.users.slots, self.users.columns.last_used
        present = [slots[user] for user in dict.fromkeys(decoded.user) if user in slots]
        used[present] = used.max() + 1

    def _bring(self, partition: int, users: list[str]) -> None:
        fresh = [user for user in users if user in self._erased]
        self._erased.difference_update(fresh)
        stored = [user for user in users if user not in fresh] if fresh else users
        strangers = []
        for user, row in zip(stored, self.load_users(partition, stored), strict=True):
            if row is None:
                strangers.append(user)
            else:
                self.users.admit(user, partition, row)
        for other in range(self.partitions):
            if other != partition and strangers:
                rows = self.load_users(other, strangers)
                for user, row in zip(strangers, rows, strict=True):
                    if row is not None:
                        self.users.admit(user, other, row)
                strangers = [user for user, row in zip(strangers, rows, strict=True) if row is None]
        for user in fresh + strangers:
            self.users.admit(user, partition, None)
