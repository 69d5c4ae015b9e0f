"""What is searched: within bounds that the settings take, and nothing that was to stay."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stream_app.settings import load
from stream_app.tuning.space import CHEAP, TRANSFORMER, applied, dimensions, present


@pytest.mark.parametrize("end", ["low", "high"])
def test_the_settings_take_both_ends_of_every_dimension(end: str) -> None:
    settings = load()
    searched = dimensions(settings, transformer=True)
    values = {dimension.name: getattr(dimension, end) for dimension in searched}
    assert present(applied(settings, searched, values), searched) == values


def test_the_settings_as_they_are_change_nothing() -> None:
    settings = load({"models.covisit.decay": [0.9, 0.5], "trainer.tokens_per_event": 10})
    searched = dimensions(settings, transformer=True)
    assert applied(settings, searched, present(settings, searched)) == settings


def test_a_value_that_the_settings_refuse_is_an_error() -> None:
    searched = dimensions(load(), transformer=False)
    values = present(load(), searched) | {"models.candidates": 1}
    with pytest.raises(ValidationError, match="candidates"):
        applied(load(), searched, values)


def test_the_transformer_is_searched_where_it_is_on() -> None:
    names = {dimension.name for dimension in dimensions(load(), transformer=False)}
    with_it = {dimension.name for dimension in dimensions(load(), transformer=True)}
    assert names == {dimension.name for dimension in CHEAP}
    assert with_it - names == {dimension.name for dimension in TRANSFORMER}


def test_nothing_of_the_transformer_is_searched_where_another_model_is_in_its_place() -> None:
    settings = load({"models.ranker": "item-item"})
    assert dimensions(settings, transformer=True) == dimensions(settings, transformer=False)


def test_widths_are_those_that_the_heads_divide() -> None:
    settings = load({"models.transformer.heads": 3, "models.transformer.d_model": 96})
    (width,) = [d for d in dimensions(settings, transformer=True) if d.path.endswith("d_model")]
    assert width.choices == (96,)
    (width,) = [d for d in dimensions(load(), transformer=True) if d.path.endswith("d_model")]
    assert width.choices == (32, 64, 96, 128)


def test_what_is_fixed_is_not_searched() -> None:
    fixed = frozenset({"models.covisit.decay", "models.blend.lr"})
    names = {dimension.path for dimension in dimensions(load(), transformer=False, fixed=fixed)}
    assert names == {dimension.path for dimension in CHEAP} - fixed


def test_a_start_beyond_the_bounds_widens_them() -> None:
    settings = load({"models.candidates": 1000, "models.transformer.d_model": 256})
    searched = {dimension.name: dimension for dimension in dimensions(settings, transformer=True)}
    assert searched["models.candidates"].high == 1000
    assert searched["models.transformer.d_model"].choices == (32, 64, 96, 128, 256)


def test_half_lives_that_are_not_there_or_are_endless_are_not_searched() -> None:
    settings = load({"models.popularity.half_lives": [100, 0]})
    names = {dimension.name for dimension in dimensions(settings, transformer=False)}
    assert "models.popularity.half_lives.0" in names
    assert "models.popularity.half_lives.1" not in names
    assert "models.popularity.half_lives.2" not in names
