"""The re-ranker in use and the frozen first one, over swaps, new items and restarts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models.base import I32, EventBatch
from models.config import BlendSettings, ModelSettings
from models.pipeline import recommender as recommender_module
from models.pipeline.recommender import Recommender
from models.pipeline.rerankers import Aligned, Rerankers
from models.randomness import hash64
from models.state.catalogue import Catalogue
from tests.batches import Store, clicks, feed, new

ITEMS = [f"i{n}" for n in range(90)]
KNOWN = ITEMS[:60]
SETTINGS = ModelSettings(blend=BlendSettings(start_transformer=3.0))


class Fixed:
    """Likes each of the items that it knows by a number of its own, whoever asks."""

    def __init__(self, version: str) -> None:
        self.version = version
        likes = [[hash64(version + item) % 1000 / 100] for item in KNOWN]
        self.item_vectors = np.array(likes, np.float32)
        self.item_bias = np.zeros(len(KNOWN), np.float32)

    def rows(self, item_ids: Sequence[str]) -> I32:
        return np.array([KNOWN.index(i) if i in KNOWN else -1 for i in item_ids], np.int32)

    def plan(self, _users: Any, batch: EventBatch, *_: Any, **_wanted: Any) -> Any:
        self.ones = np.ones((len(batch), 1), np.float32)
        return self

    def finish(self, _accepted: Any) -> Any:
        return self.ones, self.ones

    def current(self, _users: Any, slots: Any, *_: Any) -> Any:
        return np.ones((len(slots), 1), np.float32)


def stream(start: int, n: int = 120) -> list[Any]:
    return clicks(*((f"u{k % 6}", ITEMS[(k * k + 7 * k) % 89]) for k in range(start, start + n)), start=start)


@pytest.fixture(autouse=True)
def everybody_is_in_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommender_module, "SAMPLE", 1)


def two_models() -> tuple[Recommender, Store]:
    """Events under model 1, then under model 2; and the store with a commit of it."""
    recommender, store = new(SETTINGS), Store()
    recommender.set_reranker(Fixed("1"))
    feed(recommender, stream(0), store=store)
    recommender.set_reranker(Fixed("2"))
    feed(recommender, stream(120), store=store)
    store.commit(recommender)
    return recommender, store


def frozen_figures(recommender: Recommender) -> dict[str, float]:
    return {k: v for k, v in recommender.metrics().items() if "sample" in k or "frozen" in k}


def test_the_first_one_is_frozen_at_the_first_swap_and_stays() -> None:
    known = Rerankers(Catalogue(100))
    for version in ("1", "2", "3"):
        known.use(Fixed(version), None)
    assert known.live is not None
    assert known.frozen is not None
    assert (known.first, known.live.reranker.version, known.frozen.reranker.version) == ("1", "3", "1")


def test_until_the_first_swap_the_first_one_is_the_one_in_use() -> None:
    known = Rerankers(Catalogue(100))
    assert not known.first_is_lost
    known.use(Fixed("1"), None)
    assert (known.first, known.frozen, known.first_is_lost) == ("1", None, False)


def test_after_a_restart_the_first_one_goes_on_being_compared_with() -> None:
    undisturbed, store = two_models()
    feed(undisturbed, stream(240), store=store)
    _, store = two_models()
    again = store.into(new(SETTINGS))
    assert again.rerankers.first == "1"
    again.set_reranker(Fixed("2"), Fixed("1"))
    feed(again, stream(240), store=store)
    assert again.metrics() == undisturbed.metrics()
    figures = frozen_figures(again)
    assert figures["frozen_ndcg@10"] != figures["sample_ndcg@10"]


def test_without_the_first_one_its_figures_stop_and_all_others_go_on() -> None:
    undisturbed, store = two_models()
    before = frozen_figures(undisturbed)
    feed(undisturbed, stream(240), store=store)
    _, store = two_models()
    again = store.into(new(SETTINGS))
    again.set_reranker(Fixed("2"))
    feed(again, stream(240), store=store)
    assert frozen_figures(again) == before != frozen_figures(undisturbed)
    assert again.metrics()["hr@10"] == undisturbed.metrics()["hr@10"]


def test_another_model_than_the_first_is_not_taken_for_it() -> None:
    _, store = two_models()
    again = store.into(new(SETTINGS))
    again.set_reranker(Fixed("2"), Fixed("3"))
    assert again.rerankers.first_is_lost


def test_items_that_come_and_go_are_found_where_they_are() -> None:
    catalogue = Catalogue(100)
    catalogue.intern(["i3", "unknown", "i7"])
    catalogue.admitted.clear()
    one = Aligned(Fixed("1"), catalogue)
    assert one.side.row_of[:3].tolist() == [3, -1, 7]
    assert one.rows()[:3].tolist() == [3, -1, 7]
    catalogue.evict(2)
    numbers = catalogue.intern(["i9"])
    one.admit(catalogue.admitted)
    one.fit()
    assert one.rows()[numbers].tolist() == [9]
    assert sorted(one.rows()[:4].tolist()) == sorted([-1, *(one.side.row_of[:3].tolist())])
