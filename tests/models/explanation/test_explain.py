"""Explanations of the served blend: their parts add up, and what they name is what the score rests on."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import wilcoxon

from models.config import ModelSettings, TransformerSettings
from models.explanation.explain import (
    HAD,
    UNAVAILABLE,
    UnknownItemError,
    explain,
)
from models.explanation.histories import leave_one_out
from models.pipeline.recommender import Recommender
from models.sequence.reranker import Reranker
from models.sequence.snapshot import FORMAT, Manifest, Snapshot
from models.training.event_log import EventLog
from models.training.train import Trainer
from producers.planted import Shape, World
from tests.batches import Event, feed, slots_of

USERS, ITEMS, EVENTS = 80, 60, 2400


def world_events() -> list[Event]:
    """Who has taken an item mostly takes one of the next three on their group's ring."""
    world = World(
        USERS,
        ITEMS,
        EVENTS,
        drift=0.0,
        new_items=0.0,
        shape=Shape(groups=3, noise=0.3, user_tail=0.2),
        seed=2,
    )
    draw = random.Random("events")
    last: dict[int, int] = {}
    had: dict[int, set[int]] = {}
    events = []
    for n in range(EVENTS):
        user = world.draw_user(draw)
        item, at_home = world.draw_item(user, last.get(user), had.setdefault(user, set()), n, draw)
        had[user].add(item)
        if at_home:
            last[user] = item
        events.append(
            Event(f"u{user}", f"i{item}", ts=60_000 * n, offset=n, event_id=n + 1, value=float(1 + n % 5))
        )
    return events


@pytest.fixture(scope="module")
def taught() -> Recommender:
    """A recommender that followed the planted stream, with a Transformer in the blend that has learned most of it."""
    recommender = Recommender(ModelSettings(), seed=5)
    events = world_events()
    feed(recommender, events[:-800], lists=False)
    recommender.set_reranker(trained(events[:-800]))
    feed(recommender, events[-800:], lists=False)
    return recommender


def trained(events: list[Event]) -> Reranker:
    config = TransformerSettings(d_model=16, lr=5e-3)
    trainer = Trainer(config, band=50, seed=1)
    log = EventLog(len(events))
    ones = np.ones(len(events), np.float32)
    log.append(
        [e.user for e in events], [e.item for e in events], ["click"] * len(events),
        np.array([e.value for e in events], np.float32), ones, np.array([e.ts for e in events]), {},
    )  # fmt: skip
    learned = trainer.refresh(log, 0, 30_000)
    assert learned.loss < 0.9 * np.log(ITEMS), "it has found more than that there are so many items"
    manifest = Manifest(
        format=FORMAT, version="000001", files={}, config=config.model_dump(mode="json"), band=50, scale=(1.0, 5.0),
        item_ids=trainer.item_ids, actions=trainer.actions, cut={}, gate={}, steps=1, refreshes=1,
    )  # fmt: skip
    return Reranker(Snapshot(manifest, trainer.average), cached_users=0)


def users_of(recommender: Recommender) -> list[int]:
    ids = [f"u{n}" for n in range(USERS)]
    return [int(s) for s in slots_of(recommender.users, ids) if recommender.users.columns.seq_n[s] >= 4]


def test_what_is_explained_is_the_list_that_is_made(taught: Recommender) -> None:
    for user in users_of(taught)[:20]:
        (listed,) = taught.refresh(np.array([user], np.int32), counted=False).items.tolist()
        found = explain(taught, user)
        assert [one.item for one in found.explained] == [item for item in listed if item >= 0]
        assert [one.place for one in found.explained] == list(range(1, len(found.explained) + 1))


def test_the_parts_of_a_score_and_of_a_loss_add_up(taught: Recommender) -> None:
    for one in explain(taught, users_of(taught)[0]).explained:
        assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-4)
        assert one.source == max(taught.sources, key=one.parts.__getitem__)
        for cause in one.causes:
            assert sum(cause.by_source.values()) == pytest.approx(cause.loss, abs=1e-6)
            assert cause.by_source["biased-mf"] == cause.by_source["popularity"] == 0.0
            assert cause.by_source["transformer"] != 0.0


def test_the_terms_of_the_additive_sources_are_all_of_them(taught: Recommender) -> None:
    state = taught.view().state
    user = users_of(taught)[1]
    history = np.zeros(50, np.int32)
    n, _ = taught.users.history(user, taught.actions.weights, history)
    slots = taught.catalogue.slot_of[history[: min(n, 20)]]
    vector = ((0.8 ** np.arange(len(slots)))[:, None] * state.amf.x[slots].astype(np.float64)).sum(0)
    for one in explain(taught, user).explained:
        for name in (name for name in taught.features if name.startswith("covisit")):
            assert sum(cause.terms.get(name, 0.0) for cause in one.causes) == pytest.approx(1.0, abs=1e-4)
        logit = state.amf.y[taught.catalogue.slot_of[one.item]] @ (vector / np.linalg.norm(vector))
        told = sum(cause.terms.get("asymmetric-mf", 0.0) for cause in one.causes)
        assert told == pytest.approx(float(logit), abs=1e-4)


def test_what_slim_says_of_two_items_differs_by_its_terms(taught: Recommender) -> None:
    found = explain(taught, users_of(taught)[1]).explained
    weight = float(taught.view().scratch.blend.weights[taught.features.index("slim")])
    told = [sum(cause.terms.get("slim", 0.0) for cause in one.causes) for one in found]
    assert max(told) - min(told) > 1e-3
    for one, terms in zip(found, told, strict=True):
        expected = weight * (terms - told[0])
        assert one.parts["slim"] - found[0].parts["slim"] == pytest.approx(expected, abs=1e-5)


def test_without_the_named_cause_an_item_falls_further_than_without_another(taught: Recommender) -> None:
    """Judged by the place in a list that the pipeline makes anew, candidates and all, for the shorter history."""
    rng = np.random.default_rng(7)
    difference = []
    for user in users_of(taught)[:40]:
        found = explain(taught, user)
        shorter, items = leave_one_out(taught.users, user)
        for one in found.explained[:3]:
            named = one.causes[0].item
            other = int(rng.choice([item for item in found.history if item != named]))
            places = [
                place_of(taught, shorter.row(1 + items.tolist().index(m)), one.item) for m in (named, other)
            ]
            difference.append(places[0] - places[1])
    assert len(difference) > 60
    assert wilcoxon(difference, alternative="greater").pvalue < 1e-4


def place_of(recommender: Recommender, row: bytes, item: int) -> int:
    """Place of an item in the list of a user with this row, who comes and goes again."""
    slot = recommender.users.admit("someone else", 0, row)
    (listed,) = recommender.refresh(np.array([slot], np.int32), counted=False).items.tolist()
    recommender.users.erase(slot)
    return int(listed.index(item)) if item in listed else len(listed)


def test_what_the_policy_held_back_is_told_with_its_reason(taught: Recommender) -> None:
    user = users_of(taught)[2]
    first = explain(taught, user).explained[0].item
    item_id = taught.catalogue.id_of(first) or ""
    taught.catalogue.set_item(item_id, available=False)
    try:
        found = explain(taught, user)
    finally:
        taught.catalogue.set_item(item_id, available=True)
    assert first not in [one.item for one in found.explained]
    reasons = {w.item: w.reason for w in found.withheld}
    assert [w.place for w in found.withheld if w.item == first] == [1]
    assert reasons.pop(first) == UNAVAILABLE
    had = set(found.history)
    assert reasons
    assert all(reason == HAD and item in had for item, reason in reasons.items())


def test_an_item_that_is_not_listed_is_explained_too_and_an_unknown_one_is_not(taught: Recommender) -> None:
    user = users_of(taught)[3]
    had = explain(taught, user).history[0]
    (one,) = explain(taught, user, had).explained
    assert (one.item, one.place, one.proposed_by) == (had, None, [])
    with pytest.raises(UnknownItemError):
        explain(taught, user, 10**6)


def test_explaining_changes_nothing(taught: Recommender) -> None:
    user = users_of(taught)[4]
    taught.mark_clean()
    explain(taught, user)
    delta = taught.take_dirty()
    assert not delta.users
    assert not delta.items
