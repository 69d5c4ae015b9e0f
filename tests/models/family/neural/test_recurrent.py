"""GRU4Rec and LSTM find an order, where order is all there is."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from models.family.neural.recurrent import LSTM, GRU4Rec, RecurrentSettings
from tests.models.family.planted import asked, interactions, ring

SMALL = RecurrentSettings(width=16, hidden=24, epochs=20, least_steps=150, batch=128, length=16, lr=1e-2)
USERS = np.arange(60, dtype=np.int32)

both = pytest.mark.parametrize("kind", [GRU4Rec, LSTM])


def taught(kind: type[GRU4Rec], **changed: object) -> GRU4Rec:
    model = kind(SMALL.model_copy(update=changed))
    model.fit(ring())
    return model


@both
def test_the_successor_comes_first(kind: type[GRU4Rec]) -> None:
    queries = asked(ring(), USERS)
    items, _ = taught(kind).retrieve(queries, 1)
    assert items[:, 0].tolist() == ((queries.items[:, -1] + 1) % 12).tolist()


@both
def test_it_goes_on_learning_and_does_not_forget(kind: type[GRU4Rec]) -> None:
    model = taught(kind, replay=6.0)
    new = ring(users=400, seed=5)
    shifted = interactions((new.user + 60).tolist(), (new.item + 12).tolist())
    for part in np.array_split(np.arange(len(shifted)), 3):
        model.partial_fit(shifted.take(part))
    queries = asked(shifted, np.arange(60, 460, dtype=np.int32))
    items, _ = model.retrieve(queries, 1)
    assert np.mean(items[:, 0] == (queries.items[:, -1] - 12 + 1) % 12 + 12) > 0.9
    old = asked(ring(), USERS)
    items, _ = model.retrieve(old, 1)
    assert np.mean(items[:, 0] == (old.items[:, -1] + 1) % 12) > 0.9


def test_each_has_its_own_cell() -> None:
    cells = [taught(kind, least_steps=1, epochs=1).network.cell for kind in (GRU4Rec, LSTM)]
    assert [type(cell) for cell in cells] == [nn.GRU, nn.LSTM]
