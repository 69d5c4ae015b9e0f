"""Lists of single sources: the best of everything that a source scores, however many are asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from models import selection
from models.config import ModelSettings, PolicySettings
from models.kernels import kernel
from models.pipeline import evaluation
from models.pipeline.candidates import new_scratch
from models.pipeline.fixed import fixed_of
from models.pipeline.recommender import Recommender
from tests.batches import WEIGHTS, Store, feed, traffic


class Items(NamedTuple):
    order: Any


@kernel
def sorted_best(x: Any, items: Any, n: Any) -> Any:
    return evaluation._sorted_best(x, items, n)


@pytest.mark.parametrize("n", [0, 7, 100, 900])
@pytest.mark.parametrize("k", [10, 100])
def test_the_best_are_sorted_with_ties_by_id_also_where_a_list_is_longer_than_there_are_candidates(
    n: int, k: int
) -> None:
    settings = ModelSettings(policy=PolicySettings(k=k), candidates=10)
    x = new_scratch(1000, fixed_of(settings, (1.0, 5.0), 0), 5, 4)
    assert len(x.maxima) >= selection.GROUPS * k
    draw = np.random.default_rng(n + k)
    slots, values = draw.permutation(1000)[:n], draw.integers(0, 40, n).astype(np.float32)
    order = draw.permutation(1000).astype(np.uint64)
    x.allowed[:n], x.values[:n] = slots, values
    found = x.best[: sorted_best(x, Items(order), n)].tolist()
    expected = sorted(range(n), key=lambda i: (-values[i], order[slots[i]]))[:k]
    assert found == slots[expected].tolist()


@pytest.mark.parametrize("size", [1, 7])
def test_where_a_batch_is_cut_changes_no_source_s_figures(size: int) -> None:
    events, figures = traffic(300, users=3, items=150), []
    for step in (size, len(events)):
        recommender, store = Recommender(ModelSettings(), weights=WEIGHTS, seed=1, baselines=True), Store()
        feed(recommender, events, size=step)
        store.commit(recommender)
        figures.append((recommender.baseline_counts(), store))
    assert figures[0] == figures[1]
