"""The loss that all sequence models have: full or sampled cross-entropy, or gBCE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.family.parts import losses, sequential
from models.family.registry import make
from models.training import candidate_items
from tests.models.family.planted import asked, interactions, ring

SMALL: dict[str, Any] = {"width": 16, "epochs": 1, "least_steps": 200, "batch": 128, "length": 16, "lr": 2e-2}
SMALL |= {"dropout": 0.0}
MORE: dict[str, dict[str, Any]] = {
    "sasrec": {},
    "gru4rec": {"hidden": 24},
    "lstm": {"hidden": 24},
    "unified": {"buckets": 64},
}
every_one = pytest.mark.parametrize("name", list(MORE))


@every_one
def test_with_gbce_it_learns_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential, "softmax", None)
    model = make(name, SMALL | MORE[name] | {"loss": "gbce", "negatives": 6})
    model.fit(ring())
    queries = asked(ring(), np.arange(60, dtype=np.int32))
    items, _ = model.retrieve(queries, 1)
    assert items[:, 0].tolist() == ((queries.items[:, -1] + 1) % 12).tolist()


@every_one
def test_gbce_is_given_its_calibration_and_as_many_negatives_as_are_wanted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, float]] = set()

    def watched(*given: Any) -> torch.Tensor:
        seen.add((len(given[4]), given[5]))
        assert 1 <= int(given[4].min()) <= int(given[4].max()) <= 12
        return losses.gbce(*given)

    monkeypatch.setattr(sequential, "gbce", watched)
    wanted = {"loss": "gbce", "negatives": 7, "calibration": 0.25, "least_steps": 3}
    make(name, SMALL | MORE[name] | wanted).fit(ring())
    assert seen == {(7, 0.25)}


@every_one
@pytest.mark.parametrize("negatives", [30, 400, 10_000])
def test_a_step_compares_as_many_items_as_the_settings_say_and_at_most_all(
    name: str, negatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def watched(targets: Any, n_items: int, sampled: int, seed: int, step: int) -> candidate_items.Choice:
        choice = candidate_items.choose(targets, n_items, sampled, seed, step)
        seen.append((len(choice.rows), len(np.unique(targets))))
        return choice

    monkeypatch.setattr(losses, "choose", watched)
    rng = np.random.default_rng(0)
    events = interactions(rng.integers(0, 20, 400).tolist(), rng.permutation(400).tolist())
    few = {"negatives": negatives, "batch": 8, "least_steps": 3, "length": 8}
    make(name, SMALL | MORE[name] | few).fit(events)
    assert seen
    assert all(rows == min(targets + negatives, 400) for rows, targets in seen)
