"""SASRec finds an order, where order is all there is."""

from __future__ import annotations

import numpy as np
import pytest

from models.family.neural.sasrec import SASRec, SASRecSettings
from tests.models.family.planted import asked, interactions, ring

SMALL = SASRecSettings(width=16, epochs=20, least_steps=150, batch=128, length=16, lr=1e-2, dropout=0.1)
USERS = np.arange(60, dtype=np.int32)


def taught(**changed: object) -> SASRec:
    model = SASRec(SMALL.model_copy(update=changed))
    model.fit(ring())
    return model


@pytest.mark.parametrize("changed", [{}, {"negatives": 4}, {"heads": 4}, {"loss": "gbce", "negatives": 6}])
def test_the_successor_comes_first(changed: dict[str, object]) -> None:
    queries = asked(ring(), USERS)
    items, _ = taught(**changed).retrieve(queries, 1)
    assert items[:, 0].tolist() == ((queries.items[:, -1] + 1) % 12).tolist()


def test_the_same_items_in_another_order_have_another_successor() -> None:
    model = SASRec(SMALL)
    model.fit(ring(each=13))
    for turn in (0, 5, 9):
        turned = interactions([0] * 12, [(turn + step) % 12 for step in range(12)])
        assert model.retrieve(asked(turned, [0]), 1)[0].item() == turn


def test_histories_longer_than_what_is_looked_at_are_answered() -> None:
    history = asked(interactions([0] * 40, [i % 12 for i in range(40)]), [0], length=40)
    assert taught(length=8).retrieve(history, 1)[0].item() == 40 % 12


def test_it_goes_on_learning_and_does_not_forget() -> None:
    model = taught(replay=6.0)
    new = ring(users=240, seed=5)
    shifted = interactions((new.user + 60).tolist(), (new.item + 12).tolist())
    for part in np.array_split(np.arange(len(shifted)), 3):
        model.partial_fit(shifted.take(part))
    queries = asked(shifted, np.arange(60, 300, dtype=np.int32))
    items, _ = model.retrieve(queries, 1)
    assert np.mean(items[:, 0] == (queries.items[:, -1] - 12 + 1) % 12 + 12) > 0.9
    old = asked(ring(), USERS)
    items, _ = model.retrieve(old, 1)
    assert np.mean(items[:, 0] == (old.items[:, -1] + 1) % 12) > 0.9


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width \(16\) must be a multiple of the number of heads \(3\)"):
        SASRecSettings(width=16, heads=3)
