"""NeuMF and its MLP: tastes are told apart, and pairs are scored as they were learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.family.neural import neumf
from models.family.neural.neumf import MLP, NeuMF, NeuMFSettings
from tests.models.family.planted import asked, checkerboard

SMALL = NeuMFSettings(width=8, epochs=20, least_steps=250, batch=128, lr=1e-2, dropout=0.0)
EVEN = np.arange(0, 40, 2, dtype=np.int32)

both = pytest.mark.parametrize("kind", [NeuMF, MLP])


def taught(kind: type[NeuMF]) -> NeuMF:
    model = kind(SMALL)
    model.fit(checkerboard())
    return model


@both
def test_items_of_the_own_taste_that_were_not_taken_come_before_all_of_the_other(kind: type[NeuMF]) -> None:
    scores = taught(kind).score(asked(checkerboard(), EVEN))
    assert (scores[:, ::2].min(1) > scores[:, 1::2].max(1)).mean() > 0.9


@both
def test_all_items_at_once_score_as_pair_by_pair(kind: type[NeuMF]) -> None:
    model = taught(kind)
    with torch.inference_mode():
        pairs = model.network(torch.tensor([4, 7]), torch.arange(1, 21).expand(2, 20))
    scores = model.score(asked(checkerboard(), [4, 7]))
    np.testing.assert_allclose(scores, pairs.numpy(), rtol=1e-4, atol=1e-5)


def test_what_is_held_at_once_does_not_change_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    model = taught(NeuMF)
    queries = asked(checkerboard(), EVEN)
    expected = model.score(queries)
    monkeypatch.setattr(neumf, "ACTIVATIONS", 1)
    assert model.scored_at_once() == 1
    np.testing.assert_allclose(model.score(queries), expected, rtol=1e-4, atol=1e-5)


def test_the_parts_of_the_mlp_are_in_neumf_and_the_factors_are_not_in_the_mlp() -> None:
    whole, part = set(taught(NeuMF).arrays()), set(taught(MLP).arrays())
    assert part < whole
    assert {name for name in whole - part if "factors" in name or "gmf" in name} == whole - part
