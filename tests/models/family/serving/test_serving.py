"""Models of the family in the re-ranker's place: trained on the log, kept as snapshots, asked for vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.family.serving import reranker as rerankers
from models.family.serving import snapshot
from models.family.serving.reranker import FamilyReranker
from models.family.serving.snapshot import of_family
from models.family.serving.trainer import FamilyTrainer
from models.pipeline.recommender import Recommender
from models.sequence.snapshot import SnapshotError
from models.training.checkpoint import CheckpointError
from models.training.event_log import EventLog
from models.training.train import InterruptedTrainingError
from models.vocabulary import kind_of
from tests.models.sequence.test_reranker import EVENTS, ITEMS, LENGTH, SETTINGS, USERS, stream

KNOWN = 2 * ITEMS // 3
SMALL: dict[str, dict[str, Any]] = {
    "item-item": {},
    "ials": {"factors": 8},
    "gru4rec": {"width": 16, "hidden": 16, "epochs": 1, "least_steps": 40, "batch": 64, "length": LENGTH},
    "unified": {"width": 16, "epochs": 1, "least_steps": 40, "batch": 64, "length": LENGTH, "buckets": 64},
}

each_kind = pytest.mark.parametrize("name", list(SMALL))


def fill(log: EventLog, start: int = 0, n: int = 300, users: int = USERS, kind: str = "rating") -> None:
    numbers = np.arange(start, start + n)
    log.append(
        [f"user-{i % users}" for i in numbers],
        [f"item-{(i * i) % KNOWN}" for i in numbers],
        [kind] * n,
        np.full(n, 4.0, np.float32),
        np.full(n, -1.0 if kind == "skip" else 1.0, np.float32),
        numbers * 1000,
        {},
    )


def trained(name: str) -> FamilyTrainer:
    log = EventLog(1000)
    fill(log)
    trainer = FamilyTrainer(name, SMALL[name], seed=0)
    trainer.refresh(log, 0, 0)
    return trainer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A snapshot of each kind of model, which knows two thirds of the items."""
    root = tmp_path_factory.mktemp("snapshots")
    for name in SMALL:
        trained(name).write(root / name, "1", {"events-0": 300})
    return {name: root / name for name in SMALL}


def lists(folder: Path, size: int) -> np.ndarray:
    """The lists after each accepted event, [n, k] item numbers, with the stream cut every `size` events."""
    recommender = Recommender(SETTINGS, seed=0)
    recommender.set_reranker(FamilyReranker(snapshot.read(folder), LENGTH))
    batch = stream(recommender)
    parts = []
    for start in range(0, EVENTS, size):
        part = batch.slice(start, min(start + size, EVENTS))
        parts.append(recommender.process(part, np.ones(len(part), np.bool_)).lists.items)
    return np.concatenate(parts)


@each_kind
def test_cuts_change_no_list(folders: dict[str, Path], name: str) -> None:
    np.testing.assert_array_equal(lists(folders[name], 7), lists(folders[name], EVENTS))


@each_kind
def test_a_vector_times_an_item_s_is_the_model_s_score(folders: dict[str, Path], name: str) -> None:
    reranker = FamilyReranker(snapshot.read(folders[name]), LENGTH)
    recommender = Recommender(SETTINGS, seed=0)
    batch = stream(recommender)
    row_of = reranker.rows([f"item-{i}" for i in range(ITEMS)])
    assert (row_of[KNOWN:] == -1).all()
    plan = reranker.plan(recommender.users, batch, row_of, recommender.actions)
    status = recommender.process(batch, np.zeros(EVENTS, np.bool_)).status
    _, after = plan.finish(status != 1)
    slots = np.arange(USERS, dtype=np.int32)
    now = reranker.current(recommender.users, slots, row_of, recommender.actions)
    asked = rerankers._Asked(reranker.kinds)
    of_action = np.zeros(256, np.int32)
    of_action[recommender.actions.code("rating")] = 1
    held = rerankers.histories(recommender.users, slots.astype(np.int64), row_of, of_action, LENGTH)
    for user, history in enumerate(held):
        asked.add(user, history)
        newest = np.flatnonzero((batch.user == user) & (status != 1))[-1]
        np.testing.assert_allclose(now[user], after[newest], rtol=1e-4, atol=1e-4)
    scores = np.maximum(reranker.model.score(asked.queries()), rerankers.LOWEST)
    np.testing.assert_allclose(
        now @ reranker.item_vectors.T + reranker.item_bias, scores, rtol=1e-4, atol=1e-4
    )


def test_what_the_gate_asks_for_is_what_the_worker_asks_for(folders: dict[str, Path]) -> None:
    from models.sequence.encode import Events

    reranker = FamilyReranker(snapshot.read(folders["ials"]), LENGTH)
    held = Events(
        np.array([3, 5, 7], np.int32), np.ones(3, np.int32), np.full(3, 4.0, np.float32), np.array([-1, 9, 9])
    )
    new = Events(
        np.array([2, -1], np.int32), np.ones(2, np.int32), np.full(2, 4.0, np.float32), np.array([9, 9])
    )
    offsets = np.array([0, 3], np.int64)
    before, after = reranker.encode_block(np.zeros(2, np.int64), new, held, offsets, ["user-1"])
    asked = rerankers._Asked(reranker.kinds)
    for rows in ([3, 5, 7], [3, 5, 7, 2]):
        asked.add(1, [(row, 4.0, 0, 0) for row in rows])
    expected = reranker.vectors(asked.queries())
    np.testing.assert_allclose(before, expected, rtol=1e-5)
    np.testing.assert_allclose(after, expected[[1, 1]], rtol=1e-5)


def test_where_an_event_took_place_is_learned_and_asked_with(tmp_path: Path) -> None:
    """What follows an item depends on the place alone: one item after it at home, another one in the shop."""
    rng, users, length = np.random.default_rng(1), 200, 6
    places = np.repeat(rng.integers(0, 2, (users, length // 2)), 2, axis=1)
    items = np.where(np.arange(length) % 2 == 0, 0, 1 + places)  # each pair: the same item, then the place's
    log = EventLog(10_000)
    log.append(
        [f"user-{u}" for u in range(users) for _ in range(length)],
        [f"item-{item}" for item in items.ravel()],
        [kind_of("click", ("home", "shop")[place]) for place in places.ravel()],
        np.full(items.size, np.nan, np.float32),
        np.ones(items.size, np.float32),
        np.arange(items.size) * 1000,
        {},
    )
    settings = SMALL["unified"] | {"least_steps": 150, "dropout": 0.0, "lr": 3e-3}
    trainer = FamilyTrainer("unified", settings, seed=0)
    trainer.refresh(log, 0, 0)
    trainer.write(tmp_path / "s", "1", {})
    reranker = FamilyReranker(snapshot.read(tmp_path / "s"), LENGTH)
    home, shop = (reranker.action_codes([kind_of("click", place)])[0] - 1 for place in ("home", "shop"))
    asked = rerankers._Asked(reranker.kinds)
    for kind in (home, shop):
        asked.add(-1, [(int(reranker.rows(["item-0"])[0]), float("nan"), 0, int(kind))])
    queries = asked.queries()
    assert sorted(queries.scenarios[:, -1].tolist()) == [1, 2]
    assert queries.actions[0, -1] == queries.actions[1, -1], "the same was done in both places"
    scores = reranker.vectors(queries) @ reranker.item_vectors.T + reranker.item_bias
    one, other = reranker.rows(["item-1", "item-2"])
    assert scores[0, one] > scores[0, other] + 1.0
    assert scores[1, other] > scores[1, one] + 1.0


def test_a_kind_that_the_model_did_not_learn_from_is_what_was_done_wherever(folders: dict[str, Path]) -> None:
    reranker = FamilyReranker(snapshot.read(folders["gru4rec"]), LENGTH)
    codes = reranker.action_codes(["rating", kind_of("rating", "moon"), kind_of("walk", "moon")])
    assert codes[0] == codes[1] > 0
    assert codes[2] == 0


class TestTrainer:
    def test_the_first_refresh_fits_and_the_next_learns_what_is_new(self) -> None:
        log = EventLog(1000)
        fill(log)
        trainer = FamilyTrainer("popularity", {}, seed=0)
        assert trainer.refresh(log, 0, 0).tokens == 300
        fill(log, 300, 50, users=USERS + 3)
        assert trainer.refresh(log, 300, 0).tokens == 50
        assert trainer.refreshes == 2
        assert trainer.trained_to == 350
        assert len(trainer.user_ids) == USERS + 3
        assert trainer.refresh(log, 350, 0).steps == 0

    def test_what_does_not_teach_positively_is_not_learned(self) -> None:
        log = EventLog(1000)
        fill(log, 0, 30)
        fill(log, 30, 20, kind="skip")
        assert FamilyTrainer("popularity", {}, seed=0).refresh(log, 0, 0).tokens == 30

    def test_codes_stay_when_the_log_gives_its_own_to_others(self) -> None:
        log = EventLog(10)
        fill(log, 0, 10)
        trainer = FamilyTrainer("popularity", {}, seed=0)
        trainer.refresh(log, 0, 0)
        first = list(trainer.item_ids)
        log.append(["new"] * 10, [f"other-{i}" for i in range(10)], ["rating"] * 10,
                   np.full(10, 4.0, np.float32), np.ones(10, np.float32), np.arange(10) + 10**6, {})  # fmt: skip
        trainer.refresh(log, 10, 0)
        assert trainer.item_ids[: len(first)] == first
        assert trainer.item_ids[len(first) :] == [f"other-{i}" for i in range(10)]

    @pytest.mark.parametrize("name", ["popularity", *SMALL])
    def test_what_the_log_has_dropped_twice_over_is_out_of_model_and_codes(self, name: str) -> None:
        """Every user and item is there for a while and never again."""
        log = EventLog(300)
        trainer = FamilyTrainer(name, SMALL.get(name, {}), seed=0)
        sizes = []
        for month in range(8):
            numbers = np.arange(150)
            log.append([f"user-{month}-{i % 30}" for i in numbers], [f"item-{month}-{i % 20}" for i in numbers],
                       ["rating"] * 150, np.full(150, 4.0, np.float32), np.ones(150, np.float32),
                       numbers + 10**6 * month, {})  # fmt: skip
            trainer.refresh(log, 150 * month, 0)
            sizes.append((len(trainer.user_ids), trainer.model.n_users, trainer.model.n_items))
            assert {f"item-{month}-{i}" for i in range(20)} <= set(trainer.item_ids)
        # The log holds two months; the model has learned four of them when it begins again with those two.
        months = [1, 2, 3, 4, 2, 3, 4, 2]
        assert sizes == [(30 * n, 30 * n, 20 * n) for n in months]
        fresh = FamilyTrainer(name, SMALL.get(name, {}), seed=0)
        fresh.refresh(log, 0, 0)
        assert (trainer.item_ids, trainer.user_ids) == (fresh.item_ids, fresh.user_ids)
        for key, array in trainer.model.arrays().items():
            np.testing.assert_array_equal(array, fresh.model.arrays()[key])

    def test_where_a_model_began_is_kept(self, tmp_path: Path) -> None:
        log = EventLog(100)
        trainer = FamilyTrainer("popularity", {}, seed=0)
        for start in range(0, 400, 50):
            fill(log, start, 50)
            trainer.refresh(log, start, 0)
        assert trainer.learned_from > 0
        trainer.save(tmp_path / "c")
        other = FamilyTrainer("popularity", {}, seed=0)
        other.load(tmp_path / "c")
        assert other.learned_from == trainer.learned_from

    def test_who_was_erased_is_in_no_snapshot(self, tmp_path: Path) -> None:
        log = EventLog(1000)
        fill(log)
        trainer = FamilyTrainer("item-item", {}, seed=0)
        trainer.refresh(log, 0, 0)
        log.erase("user-2")
        fill(log, 300, 12, users=2)
        trainer.refresh(log, 300, 0)
        trainer.write(tmp_path / "s", "1", {})
        assert "user-2" not in (tmp_path / "s" / "manifest.json").read_text()
        assert "user-1" in (tmp_path / "s" / "manifest.json").read_text()

    @each_kind
    def test_it_goes_on_from_a_checkpoint(self, name: str, tmp_path: Path) -> None:
        trainer = trained(name)
        trainer.save(tmp_path / "c")
        other = FamilyTrainer(name, SMALL[name], seed=0)
        other.load(tmp_path / "c")
        log = EventLog(1000)
        fill(log, 0, 330)
        for one in (trainer, other):
            one.refresh(log, 300, 0)
        ours, theirs = trainer.model.arrays(), other.model.arrays()
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            np.testing.assert_allclose(array, theirs[key], rtol=1e-5, atol=1e-6)

    def test_a_checkpoint_of_other_settings_is_refused(self, tmp_path: Path) -> None:
        trained("ials").save(tmp_path / "c")
        with pytest.raises(CheckpointError, match="other settings"):
            FamilyTrainer("ials", {"factors": 9}, seed=0).load(tmp_path / "c")

    def test_it_stops_when_it_is_told_to(self) -> None:
        with pytest.raises(InterruptedTrainingError):
            FamilyTrainer("popularity", {}, seed=0).refresh(EventLog(10), 0, 0, lambda: True)


class TestSnapshot:
    def test_it_says_that_it_is_of_the_family(self, folders: dict[str, Path], tmp_path: Path) -> None:
        assert of_family(folders["ials"])
        assert not of_family(tmp_path)

    def test_another_one_than_the_announced_is_refused(self, folders: dict[str, Path]) -> None:
        with pytest.raises(SnapshotError, match="not the announced one"):
            snapshot.read(folders["ials"], "0" * 64)

    @pytest.mark.parametrize("file", ["manifest.json", "model/manifest.json", "model/weights.safetensors"])
    @pytest.mark.parametrize("damage", ["gone", "cut"])
    def test_a_damaged_one_is_refused(self, tmp_path: Path, file: str, damage: str) -> None:
        trained("item-item").write(tmp_path / "s", "1", {})
        path = tmp_path / "s" / file
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(SnapshotError):
            snapshot.read(tmp_path / "s")

    def test_too_few_names_are_refused(self, tmp_path: Path) -> None:
        trained("item-item").write(tmp_path / "s", "1", {})
        path = tmp_path / "s" / "manifest.json"
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"item_ids": manifest["item_ids"][:-1]}))
        with pytest.raises(SnapshotError, match="fewer users or items"):
            snapshot.read(tmp_path / "s")

    def test_a_model_without_factors_has_a_limit_of_items(
        self, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rerankers, "MOST_ITEMS", 3)
        with pytest.raises(SnapshotError, match="at most 3 items, not 6"):
            FamilyReranker(snapshot.read(folders["item-item"]), LENGTH)
        FamilyReranker(snapshot.read(folders["unified"]), LENGTH)
