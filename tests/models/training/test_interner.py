"""Codes of ids, used again when no event refers to them."""

from __future__ import annotations

import numpy as np

from models.training.interner import Interner


def test_codes_are_dense_and_stable() -> None:
    interner = Interner()
    assert interner.intern(["a", "b", "a", "c"]).tolist() == [0, 1, 0, 2]
    assert interner.intern(["c", "d"]).tolist() == [2, 3]
    assert interner.ids == ["a", "b", "c", "d"]


def test_code_is_free_after_its_last_use() -> None:
    interner = Interner()
    first = interner.intern(["a", "a", "b"])
    interner.release(first[:1])
    assert interner.codes == {"a": 0, "b": 1}
    interner.release(first[1:2])
    assert interner.codes == {"b": 1}
    assert interner.intern(["c"]).tolist() == [0]
    assert len(interner) == 2


def test_many_new_ids_in_several_batches() -> None:
    interner = Interner()
    codes = [interner.intern([f"{n}-{i}" for i in range(n)]) for n in (3, 100, 40, 7)]
    assert np.concatenate(codes).tolist() == list(range(150))
    for batch in codes:
        interner.release(batch)
    assert len(interner) == 0


def test_nothing_is_released_by_nothing() -> None:
    interner = Interner()
    interner.release(np.zeros(0, np.int32))
    assert interner.intern([]).tolist() == []
