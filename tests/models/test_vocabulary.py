"""Codes of event types."""

from __future__ import annotations

import numpy as np

from models.vocabulary import OTHER, Actions


def test_names_get_codes_from_1_at_first_sight_and_keep_them() -> None:
    actions = Actions({})
    assert [actions.code(name) for name in ("click", "buy", "click")] == [1, 2, 1]
    assert actions.names == ["click", "buy"]


def test_a_code_teaches_with_its_name_s_weight_and_others_with_the_default() -> None:
    actions = Actions({"buy": 3.0, "dislike": -0.5}, default=0.25)
    codes = [actions.code(name) for name in ("buy", "dislike", "click")]
    assert actions.weights[codes].tolist() == [3.0, -0.5, 0.25]
    assert actions.weights[OTHER] == np.float32(0.25)


def test_names_beyond_the_255th_share_one_code() -> None:
    actions = Actions({"last": 9.0})
    assert [actions.code(f"type {n}") for n in range(255)] == list(range(1, 256))
    assert actions.code("last") == OTHER
    assert actions.code("type 254") == 255
    assert len(actions.names) == 255


def test_restored_names_have_their_codes_again() -> None:
    actions, again = Actions({"b": 2.0}), Actions({"b": 2.0})
    for name in ("c", "a", "b"):
        actions.code(name)
    again.restore(actions.names)
    assert again.codes == actions.codes == {"c": 1, "a": 2, "b": 3}
    assert again.weights.tolist() == actions.weights.tolist()
