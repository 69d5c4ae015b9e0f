"""The models' settings: what they refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.config import CovisitSettings, ModelSettings, PolicySettings, Reading


def reading(name: str) -> Reading:
    return Reading(name=name, matrix=0, items=1, decay=1.0, row_power=0.5, column_power=0.0)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValidationError, match="max_itms"):
        ModelSettings.model_validate({"max_itms": 16})


def test_two_readings_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="same name"):
        CovisitSettings(readings=(reading("near"), reading("near")))


@pytest.mark.parametrize("name", ["", "Near", "a b", "x" * 33])
def test_a_reading_has_a_name_that_can_stand_in_a_record(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        reading(name)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ModelSettings().candidates = 5  # type: ignore[misc]


def test_the_defaults_name_every_reading_apart() -> None:
    names = [r.name for r in ModelSettings().covisit.readings]
    assert len(set(names)) == len(names) == 5


def test_no_more_places_are_explored_than_a_list_has() -> None:
    with pytest.raises(ValidationError, match="11 of the 10 places"):
        ModelSettings.model_validate({"policy": {"exploration": 11}})
    assert PolicySettings(k=20, exploration=11).exploration == 11
