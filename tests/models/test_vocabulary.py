"""Codes of event types."""

from __future__ import annotations

import numpy as np

from models.vocabulary import (
    MAX_SCENARIOS,
    MOST_IN_SCENARIOS,
    OTHER,
    Actions,
    codes_of,
    kind_of,
    parted,
    row_of,
)


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


def test_a_kind_says_what_was_done_and_where() -> None:
    assert parted(kind_of("click", "shop")) == ("click", "shop")
    assert kind_of("click", None) == kind_of("click", "") == "click"
    assert parted("click") == ("click", "")
    actions, scenarios = codes_of(
        [kind_of("click", "shop"), "buy", kind_of("buy", "home"), kind_of("click", "home")]
    )
    assert actions.tolist() == [0, 1, 1, 0]
    assert scenarios.tolist() == [1, 0, 2, 2]


def test_a_kind_teaches_what_its_type_does_wherever_it_took_place() -> None:
    actions = Actions({"buy": 3.0}, default=0.5)
    codes = [actions.code(kind) for kind in ("buy", kind_of("buy", "shop"), kind_of("click", "home"))]
    assert actions.weights[codes].tolist() == [3.0, 3.0, 0.5]
    assert actions.scenarios[codes].tolist() == [0, 1, 2]
    assert actions.scenarios[OTHER] == 0


def test_scenarios_beyond_the_last_are_not_told_apart() -> None:
    actions = Actions({})
    for n in range(MAX_SCENARIOS):
        assert actions.scenarios[actions.code(kind_of("click", f"place {n}"))] == n + 1
    session = actions.code(kind_of("click", "one session of many"))
    assert session == actions.code("click")
    assert actions.scenarios[session] == 0
    known = actions.code(kind_of("buy", "place 3"))
    assert actions.scenarios[known] == 4
    again = Actions({})
    again.restore(actions.names)
    assert again.codes == actions.codes
    assert again.scenarios.tolist() == actions.scenarios.tolist()


def test_the_last_codes_are_for_types() -> None:
    """More kinds than there are codes: a dislike stays one, wherever it took place."""
    actions = Actions({"skip": -1.0})
    for number in range(17):
        for place in range(MAX_SCENARIOS):
            actions.code(kind_of(f"type {number}", f"{place}"))
    assert len(actions.names) == MOST_IN_SCENARIOS + 17 - MOST_IN_SCENARIOS // MAX_SCENARIOS
    skip = actions.code(kind_of("skip", "3"))
    assert skip == actions.code("skip") != OTHER
    assert actions.weights[skip] == -1.0
    assert actions.scenarios[skip] == 0
    again = Actions({"skip": -1.0})
    again.restore(actions.names)
    assert again.codes == actions.codes


def test_a_kind_beyond_the_255th_has_the_code_of_all_others() -> None:
    actions = Actions({})
    codes = [actions.code(name) for name in ("click", *(f"type {n}" for n in range(254)))]
    assert actions.code(kind_of("click", "shop")) == codes[0]
    assert actions.code(kind_of("unheard-of", "shop")) == OTHER


def test_a_kind_that_is_not_known_is_what_was_done_wherever() -> None:
    known = {"click": 1, kind_of("buy", "home"): 2}
    kinds = ("click", kind_of("click", "moon"), kind_of("buy", "home"), kind_of("buy", "moon"), "sell")
    assert [row_of(kind, known) for kind in kinds] == [1, 1, 2, 0, 0]
