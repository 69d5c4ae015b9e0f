"""What is shared by all users and items survives its bytes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.config import ModelSettings, PopularitySettings
from models.pipeline.recommender import Recommender
from models.state import meta_row, totals
from models.state.persistence import META, UNAVAILABLE
from models.vocabulary import kind_of
from tests.batches import Event, Store, feed

KINDS = ("click", kind_of("click", "home"), kind_of("click", "shop"), kind_of("buy", "home"))


def learned(settings: ModelSettings | None = None) -> Recommender:
    recommender = Recommender(settings or ModelSettings())
    events = [
        Event(f"u{n % 7}", f"i{n * n % 31}", ts=n, offset=n, event_id=n + 1, kind=KINDS[n % 4])
        for n in range(300)
    ]
    feed(recommender, events)
    recommender.catalogue.set_item("i4", available=False)
    return recommender


def test_every_number_comes_back() -> None:
    recommender = learned()
    here = recommender._state.here
    here.base[:2], here.epochs[:2] = (512 * 5000, 512 * 10_000), (1, 2)
    store = Store()
    store.commit(recommender)
    other = store.into(Recommender(recommender.settings))
    one, two = recommender._state, other._state
    for name, before, after in (
        ("totals", one.totals, two.totals),
        ("popularity", one.popularity.total, two.popularity.total),
        ("epochs", one.popularity.epochs, two.popularity.epochs),
        ("scenarios", one.here.total, two.here.total),
        ("their clocks", one.here.base, two.here.base),
        ("their epochs", one.here.epochs, two.here.epochs),
        ("mean", one.mf_mean, two.mf_mean),
        ("blend", one.blend.weight, two.blend.weight),
        ("its accumulators", one.blend.square, two.blend.square),
        ("its layer", one.blend.hidden, two.blend.hidden),
        ("the layer's accumulators", one.blend.hidden_square, two.blend.hidden_square),
        ("what the layer gives", one.blend.out, two.blend.out),
        ("... and its accumulators", one.blend.out_square, two.blend.out_square),
        ("its lessons", one.blend.lessons, two.blend.lessons),
    ):
        assert np.array_equal(before, after), name
    assert one.blend.out.any()
    assert other.actions.names == recommender.actions.names
    assert other.catalogue.next_number == recommender.catalogue.next_number
    assert other.catalogue.unavailable == {"i4"}


def test_the_most_popular_items_come_back_by_number() -> None:
    recommender = learned()
    data = meta_row.dump(recommender._state, recommender.actions, recommender.catalogue, "7")
    other = Recommender(recommender.settings)
    tops, first_model = meta_row.load(data, other._state, other.actions, other.catalogue)
    assert first_model == "7"
    numbers = recommender._state.items.number
    tables = (recommender._state.popularity.top, recommender._state.here.top[:2])
    for top, table in zip(tops, tables, strict=True):
        assert np.array_equal(top, np.where(table >= 0, numbers[table], -1))
        assert (top >= 0).any()


def test_unavailable_items_are_written_when_they_change_alone() -> None:
    recommender, store = learned(), Store()
    assert UNAVAILABLE in dict(recommender.take_dirty().meta)
    store.commit(recommender)
    recommender.catalogue.set_item("i4", available=False)
    feed(recommender, [Event("u1", "i5", ts=10**6, offset=900, event_id=901)])
    assert list(dict(recommender.take_dirty().meta)) == [META]
    store.commit(recommender)
    recommender.catalogue.set_item("i4", available=True)
    recommender.catalogue.retire("never seen")
    assert UNAVAILABLE in dict(recommender.take_dirty().meta)
    store.commit(recommender)
    assert store.into(Recommender(recommender.settings)).catalogue.unavailable == {"never seen"}


def test_a_row_that_has_the_unavailable_items_too() -> None:
    """As schema 5 wrote it: the next commit gives them a row of their own."""
    recommender = learned()
    row = dict(recommender.take_dirty().meta)[META]
    store = Store(meta={META: msgspec.msgpack.encode(msgspec.msgpack.decode(row) | {"unavailable": ["i4"]})})
    other = store.into(Recommender(recommender.settings))
    assert other.catalogue.unavailable == {"i4"}
    assert UNAVAILABLE in dict(other.take_dirty().meta)


def test_figures_of_a_first_model_that_a_row_does_not_name_begin_anew() -> None:
    recommender = learned()
    recommender._state.totals[list(totals.OF_THE_SAMPLE)] = 5.0
    data = msgspec.msgpack.decode(
        meta_row.dump(recommender._state, recommender.actions, recommender.catalogue, "")
    )
    for name, expected in (("named", 5.0), ("not named", 0.0)):
        if name == "not named":
            del data["first_model"]
        other = Recommender(recommender.settings)
        _, first = meta_row.load(msgspec.msgpack.encode(data), other._state, other.actions, other.catalogue)
        assert first == ""
        assert (other._state.totals[list(totals.OF_THE_SAMPLE)] == expected).all(), name
        assert other.metrics()["hr@10"] == recommender.metrics()["hr@10"]


def test_a_row_from_before_there_were_scenarios() -> None:
    recommender = learned()
    data = msgspec.msgpack.decode(
        meta_row.dump(recommender._state, recommender.actions, recommender.catalogue, "7")
    )
    old = {name: value for name, value in data.items() if not name.startswith("here_")}
    other = Recommender(recommender.settings)
    (_, here), _ = meta_row.load(msgspec.msgpack.encode(old), other._state, other.actions, other.catalogue)
    assert here.shape == (0, 256)
    assert not other._state.here.total.any()


def test_a_blend_from_before_slim_keeps_its_weights() -> None:
    recommender = learned()
    data = msgspec.msgpack.decode(
        meta_row.dump(recommender._state, recommender.actions, recommender.catalogue, "7")
    )
    for name in ("blend_weight", "blend_square"):
        data[name] = [row[:-1] for row in data[name]]
    del data["blend_layer"]
    other = Recommender(recommender.settings)
    start = other._state.blend.weight[:, -1].copy()
    meta_row.load(msgspec.msgpack.encode(data), other._state, other.actions, other.catalogue)
    assert np.array_equal(other._state.blend.weight[:, :-1], recommender._state.blend.weight[:, :-1])
    assert np.array_equal(other._state.blend.weight[:, -1], start)
    assert not other._state.blend.out.any()
    assert other._state.blend.lessons[0] == 0.0 < recommender._state.blend.lessons[0]
    data["blend_weight"] = [row[:-1] for row in data["blend_weight"]]
    with pytest.raises(ValueError, match="other features"):
        meta_row.load(msgspec.msgpack.encode(data), other._state, other.actions, other.catalogue)


def test_a_row_of_other_settings_is_refused() -> None:
    recommender = learned()
    other = Recommender(ModelSettings(popularity=PopularitySettings(half_lives=(100, 0))))
    data = dict(recommender.take_dirty().meta)[META]
    with pytest.raises(ValueError, match="other settings"):
        meta_row.load(data, other._state, other.actions, other.catalogue)


def test_what_is_no_row_is_refused() -> None:
    other = Recommender(ModelSettings())
    with pytest.raises(msgspec.MsgspecError):
        meta_row.load(b"\xc1 no", other._state, other.actions, other.catalogue)
