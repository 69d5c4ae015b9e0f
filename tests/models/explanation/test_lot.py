"""What the lot does to a list, as it is explained."""

from __future__ import annotations

import pytest

from models.config import ModelSettings, PolicySettings
from models.explanation.explain import (
    BY_LOT,
    HAD,
    IN_LOT,
    THE_LOT,
    explain,
)
from models.explanation.lot import Lot
from tests.batches import slots_of
from tests.models.pipeline.test_exploration import ANNOUNCED, NEW, QUOTA, SETTINGS, announcing, made


@pytest.mark.parametrize(("quota", "kept"), [(QUOTA, 10 - QUOTA), (8, 5)])  # five new items can be shown
def test_what_the_blend_loses_to_the_lot_is_told(quota: int, kept: int) -> None:
    drawing = made(ModelSettings(policy=PolicySettings(exploration=quota)))
    blending = made(ModelSettings())
    user = slots_of(drawing.users, ["u1"])
    drawn = drawing.refresh(user, counted=False).items[0].tolist()
    blended = blending.refresh(slots_of(blending.users, ["u1"]), counted=False).items[0].tolist()
    found = explain(drawing, int(user[0]))
    assert [one.item for one in found.explained] == drawn[:kept]
    assert found.lot == Lot(first=kept + 1, last=10, among=5)
    assert [w.item for w in found.withheld if w.reason in {BY_LOT, IN_LOT}] == [
        item for item in blended if item not in drawn[:kept]
    ]
    assert all(w.place <= kept for w in found.withheld if w.reason == HAD)
    assert {drawing.catalogue.id_of(item) for item in drawn[kept:]} < set(NEW)


def test_a_new_item_is_said_to_be_in_the_lot_and_announced_ones_count() -> None:
    drawing = announcing(made(SETTINGS))
    user = int(slots_of(drawing.users, ["u1"])[0])
    assert explain(drawing, user).lot == Lot(first=9, last=10, among=5 + len(ANNOUNCED))
    (one,) = explain(drawing, user, drawing.catalogue.number(NEW[2])).explained
    assert THE_LOT in one.proposed_by
    (one,) = explain(drawing, user, drawing.catalogue.number(NEW[1])).explained
    assert THE_LOT not in one.proposed_by, "it is not available"
