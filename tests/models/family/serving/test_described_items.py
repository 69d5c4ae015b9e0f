"""A model that learns from content, in the re-ranker's place: items are scored before anybody had them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.family.contract import Model
from models.family.parts.descriptions import Description
from models.family.serving import snapshot
from models.family.serving.reranker import FamilyReranker
from models.family.serving.trainer import FamilyTrainer
from models.sequence.snapshot import SnapshotError
from models.training.event_log import EventLog

LENGTH = 20
NETWORK = {"width": 16, "epochs": 4, "least_steps": 150, "batch": 64, "length": LENGTH, "buckets": 64}
SMALL: dict[str, dict[str, Any]] = {
    "unified": NETWORK | {"dropout": 0.0},
    "two-tower": NETWORK,
    "content": {},
}
KINDS = ("war", "love")
each_model = pytest.mark.parametrize("name", list(SMALL))
each_with_vectors = pytest.mark.parametrize("name", ["unified", "two-tower"])


def catalogue(items: int) -> dict[str, Description]:
    """Items of two kinds in turn; the last two had no event."""
    named = [f"item-{n}" for n in range(items)] + ["unmet-war", "unmet-love"]
    return {
        name: Description((f"category:{KINDS[n % 2]}", "film"), {"text": _direction(n % 2)})
        for n, name in enumerate(named)
    }


def _direction(kind: int) -> np.ndarray[Any, Any]:
    return np.eye(3, dtype=np.float32)[kind]


def events(n: int, items: int, start: int = 0) -> EventLog:
    """Users of two kinds, each of whom takes items of theirs."""
    log = EventLog(5000)
    rng = np.random.default_rng(start)
    users = rng.integers(0, 20, n)
    picks = 2 * rng.integers(0, items // 2, n) + users % 2
    times = 1000 * (start + np.arange(n))
    log.append(
        [f"user-{u}" for u in users], [f"item-{i}" for i in picks], ["click"] * n, np.full(n, np.nan, np.float32),
        np.ones(n, np.float32), times, {},
    )  # fmt: skip
    return log


def trained(name: str, known: dict[str, Description] | None, items: int = 30) -> FamilyTrainer:
    trainer = FamilyTrainer(name, SMALL[name], seed=0)
    if known is not None:
        trainer.describe(known)
    trainer.refresh(events(2000, items), 0, 0)
    return trainer


def scores(folder: Path, kind: int, wanted: list[str]) -> list[float]:
    """What a user who took three items of a kind would score these items with."""
    reranker = FamilyReranker(snapshot.read(folder), LENGTH)
    from models.family.serving import reranker as rerankers

    asked = rerankers._Asked(reranker.kinds)
    rows = reranker.rows([f"item-{kind + 2 * n}" for n in range(3)]).tolist()
    asked.add(-1, [(row, float("nan"), 1000 * at, 0) for at, row in enumerate(rows)])
    at = reranker.rows(wanted)
    assert (at >= 0).all()
    found = reranker.vectors(asked.queries()) @ reranker.item_vectors[at].T + reranker.item_bias[at]
    return [float(one) for one in found[0]]


@each_with_vectors
def test_an_item_without_an_event_is_scored_by_what_is_said_of_it(tmp_path: Path, name: str) -> None:
    trained(name, catalogue(30)).write(tmp_path / "s", "1", {})
    for kind in (0, 1):
        of_the_other_kind = [f"item-{n}" for n in range(1 - kind, 30, 2)]
        found = scores(tmp_path / "s", kind, ["unmet-war", "unmet-love", *of_the_other_kind])
        assert found[kind] > found[1 - kind]
        assert found[kind] > np.mean(found[2:]), "what nobody met is not pushed away from everybody"


def test_a_model_without_vectors_knows_what_is_said_of_the_items_that_were_met(tmp_path: Path) -> None:
    trained("content", catalogue(30)).write(tmp_path / "s", "1", {})
    assert set(snapshot.read(tmp_path / "s").manifest.item_ids) == {f"item-{n}" for n in range(30)}
    found = scores(tmp_path / "s", 1, ["item-20", "item-21"])
    assert found[1] > found[0]


@each_with_vectors
def test_what_comes_into_the_catalogue_later_is_known_after_the_next_refresh(
    tmp_path: Path, name: str
) -> None:
    trainer = trained(name, catalogue(30))
    later = {
        f"later-{kind}": Description((f"category:{kind}", "film"), {"text": _direction(n)})
        for n, kind in enumerate(KINDS)
    }
    trainer.describe(catalogue(32) | later)
    assert trainer.refresh(events(100, 32, start=5000), 0, 0).tokens == 100
    assert trainer.refreshes == 2
    assert set(trainer.item_ids) == {f"item-{n}" for n in range(32)}
    trainer.write(tmp_path / "s", "2", {})
    ids = snapshot.read(tmp_path / "s").manifest.item_ids
    assert len(ids) == len(set(ids)) == 36
    found = scores(tmp_path / "s", 1, ["later-war", "later-love"])
    assert found[1] > found[0]


@each_model
def test_a_checkpoint_goes_on_with_the_content_that_it_learned_with(tmp_path: Path, name: str) -> None:
    trainer = trained(name, catalogue(30))
    trainer.save(tmp_path / "c")
    again = FamilyTrainer(name, SMALL[name], seed=0)
    again.load(tmp_path / "c")
    assert again.model.content is not None
    assert again.item_ids == trainer.item_ids
    for key, array in trainer.model.arrays().items():
        np.testing.assert_array_equal(again.model.arrays()[key], array)
    again.describe(catalogue(30))
    assert again.refresh(events(50, 30, start=9000), 0, 0).tokens == 50
    assert again.refreshes == 2


@each_with_vectors
def test_a_snapshot_with_items_that_nobody_met_has_the_weights_that_were_learned(name: str) -> None:
    trainer = trained(name, catalogue(30))
    learned = trainer.model.arrays()
    model, ids = trainer._with_unmet()
    assert ids[:30] == trainer.item_ids
    assert len(ids) == 32
    assert trainer.model.n_items == 30
    written = model.arrays()
    rows = len(learned["weights.item.weight"])
    assert len(written["weights.item.weight"]) == rows + 2
    for key, array in learned.items():
        np.testing.assert_array_equal(
            written[key][:rows] if "item.weight" in key else written[key][: len(array)], array
        )


def test_where_content_appears_for_the_first_time_all_events_held_are_learned_anew() -> None:
    trainer = trained("unified", None)
    trainer.describe(catalogue(30))
    log = events(2000, 30)
    assert trainer.refresh(EventLog(10), 0, 0).tokens == 0
    assert trainer.refresh(log, 1990, 0).tokens == 2000
    assert trainer.refresh(log, 1990, 0).tokens == 10


def test_a_model_that_reads_no_content_is_not_bothered_with_it() -> None:
    trainer = FamilyTrainer("popularity", {}, seed=0)
    assert not trainer.uses_content
    trainer.describe(catalogue(30))
    trainer.refresh(events(100, 30), 0, 0)
    assert trainer.model.content is None
    assert set(trainer.item_ids) <= {f"item-{n}" for n in range(30)}


@pytest.mark.parametrize("file", [snapshot.TOKENS, snapshot.VECTORS])
@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_content_that_is_not_what_was_written_is_refused(tmp_path: Path, file: str, harm: str) -> None:
    trained("content", catalogue(30)).write(tmp_path / "s", "1", {})
    path = tmp_path / "s" / snapshot.CONTENT / file
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SnapshotError, match=file):
        snapshot.read(tmp_path / "s")


def test_only_models_that_say_so_learn_from_content() -> None:
    from models.family.registry import MODELS, model_class

    said: dict[str, type[Model]] = {name: model_class(name) for name in MODELS}
    assert {name for name, one in said.items() if one.uses_content} == {"content", "two-tower", "unified"}


HYBRID: dict[str, Any] = {"retriever": {"model": "popularity"}, "ranker": {"model": "content"}, "depth": 40}


def test_a_hybrid_learns_from_content_when_a_member_does(tmp_path: Path) -> None:
    assert not FamilyTrainer("hybrid-cascade", {}, seed=0).uses_content
    trainer = FamilyTrainer("hybrid-cascade", HYBRID, seed=0)
    assert trainer.uses_content
    trainer.describe(catalogue(30))
    trainer.refresh(events(2000, 30), 0, 0)
    trainer.write(tmp_path / "s", "1", {})
    for kind in (0, 1):
        found = scores(tmp_path / "s", kind, ["item-20", "item-21"])
        assert found[kind] > found[1 - kind]


def test_a_hybrid_goes_on_with_what_comes_into_the_catalogue_later() -> None:
    trainer = FamilyTrainer("hybrid-cascade", HYBRID, seed=0)
    trainer.describe(catalogue(30))
    trainer.refresh(events(2000, 30), 0, 0)
    trainer.describe(catalogue(34))
    assert trainer.refresh(events(100, 34, start=5000), 0, 0).tokens == 100
    model = trainer.model
    assert model.content is not None
    assert {len(model.content), model.n_items} == {34}
    assert {member.n_items for member in model.members} == {34}  # type: ignore[attr-defined]
