"""Ids ↔ small numbers, with the numbers of forgotten ids used again.

In: lists of ids. Out: int32 codes. Never grows beyond the number of distinct ids that are in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.base import I32, I64


class Interner:
    """Codes of ids, each with a count of its uses; an id whose uses were all released gives its code back.

    >>> users = Interner()
    >>> users.intern(["ann", "bob", "ann"]).tolist()
    [0, 1, 0]
    >>> users.release(np.array([0, 0], np.int32)); users.ids
    [None, 'bob']
    >>> users.intern(["eve"]).tolist()
    [0]
    """

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.ids: list[str | None] = []
        self._uses: I64 = np.zeros(16, np.int64)
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.codes)

    def intern(self, ids: Sequence[str]) -> I32:
        """The codes of `ids`, each used once more."""
        codes = self.codes
        found = [codes.get(i, -1) for i in ids]
        for at, code in enumerate(found):
            if code < 0:
                found[at] = self._add(ids[at])
        result = np.array(found, np.int32)
        if len(self.ids) > len(self._uses):
            uses = np.zeros(2 * len(self.ids), np.int64)
            uses[: len(self._uses)] = self._uses
            self._uses = uses
        self._uses[: len(self.ids)] += np.bincount(result, minlength=len(self.ids))
        return result

    def _add(self, name: str) -> int:
        known = self.codes.get(name)  # an id can be new twice in one batch
        if known is not None:
            return known
        if self._free:
            code = self._free.pop()
            self.ids[code] = name
        else:
            code = len(self.ids)
            self.ids.append(name)
        self.codes[name] = code
        return code

    def release(self, used: I32) -> None:
        """One use less for each code in `used`."""
        if not len(used):
            return
        self._uses[: len(self.ids)] -= np.bincount(used, minlength=len(self.ids))
        for code in np.unique(used):
            if self._uses[code] == 0:
                name = self.ids[code]
                assert name is not None, "a code without an id was released"
                del self.codes[name]
                self.ids[code] = None
                self._free.append(int(code))
