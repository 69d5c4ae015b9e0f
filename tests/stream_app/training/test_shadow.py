import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from stream_app.settings import Settings, load
from stream_app.training.gate_window import GateWindow
from stream_app.training.shadow import Events, Shadow


def settings(**more: object) -> Settings:
    return load({"models.max_items": 200, "models.max_cached_users": 50, **more})


def events(*rows: tuple[str, str, str, int], ids: list[int] | None = None) -> Events:
    """(user, item, type, ts in s)."""
    users, items, types, ts = zip(*rows, strict=True)
    n = len(rows)
    return Events(
        user=list(users),
        item=list(items),
        kind=list(types),
        value=np.full(n, np.nan, np.float32),
        weight=np.array([settings().events.weight_of(kind) for kind in types], np.float32),
        ts=np.array(ts, np.int64) * 1000,
        partition=np.zeros(n, np.int32),
        event_id=np.array(ids or [0] * n, np.uint64),
        key=np.zeros(n, np.uint64),
        offset=np.arange(n),
    )


def walks(users: int, steps: int, start: int = 0) -> Events:
    """Every user goes through the items in order, interleaved."""
    return events(
        *((f"u{u}", f"i{s}", "click", 60 * s + u) for s in range(start, start + steps) for u in range(users))
    )


def test_a_duplicate_is_dropped_and_told() -> None:
    shadow = Shadow(settings())
    rows = [("u", f"i{n}", "click", n) for n in range(4)]
    taken = shadow.feed(events(*rows, ids=[7, 8, 7, 0]))
    assert taken.tolist() == [True, True, False, True]


def test_candidates_are_made_before_the_event_is_learned_and_lack_what_the_user_had() -> None:
    shadow = Shadow(settings())
    shadow.feed(walks(users=6, steps=5))
    shadow.feed(events(("v", "i0", "click", 900), ("v", "i1", "click", 901)))
    window = GateWindow(size=10)
    shadow.feed(events(("v", "i2", "click", 902), ("v", "brand-new", "click", 903)), window)
    window.close(shadow)
    first, second = (shadow.item_ids(c) for c in window._candidates)
    assert first[0] == "i2", "whoever had i0 and i1 goes on to i2"
    assert {"i0", "i1"}.isdisjoint(first)
    assert {"i0", "i1", "i2"}.isdisjoint(second)
    assert "brand-new" not in second


def test_only_a_known_users_liked_and_new_item_is_scored() -> None:
    shadow = Shadow(settings())
    shadow.feed(walks(users=3, steps=3))
    window = GateWindow(size=10)
    shadow.feed(
        events(
            ("new", "i0", "click", 500),  # not known
            ("u0", "i1", "click", 501),  # had it
            ("u0", "i3", "skip", 502),  # disliked
            ("u1", "i3", "click", 503),
            ("new", "i1", "click", 504),
        ),
        window,
    )
    assert window.scored == 2
    assert window._scored == [3, 4]
    assert window._user == [0, 1, 1, 2, 0]


def test_a_duplicate_does_not_enter_the_window() -> None:
    shadow = Shadow(settings())
    shadow.feed(walks(users=3, steps=3))
    window = GateWindow(size=10)
    shadow.feed(events(("u0", "i3", "click", 500), ("u0", "i4", "click", 501), ids=[5, 5]), window)
    assert window.scored == 1


def test_a_full_window_costs_nothing_more() -> None:
    shadow = Shadow(settings())
    shadow.feed(walks(users=3, steps=3))
    window = GateWindow(size=1)
    taken = shadow.feed(walks(users=3, steps=2, start=3), window)
    assert window.scored == 1
    assert taken.all()


def test_the_window_holds_the_users_sequence_as_it_was_before() -> None:
    shadow = Shadow(settings())
    shadow.feed(walks(users=2, steps=3))
    window = GateWindow(size=5)
    shadow.feed(events(("u1", "i7", "view", 500), ("u1", "i8", "click", 501)), window)
    (context,) = window._context
    assert shadow.item_ids(context.item) == ["i0", "i1", "i2"]
    assert context.ts.tolist() == [1000, 61_000, 121_000]
    assert [shadow.action_names()[e[1]] for e in window._events] == ["view", "click"]


def test_more_users_than_memory_allows_push_the_oldest_out() -> None:
    shadow = Shadow(settings(**{"models.max_cached_users": 20}))
    many = events(*((f"u{n}", f"i{n % 7}", "click", n) for n in range(100)))
    assert shadow.feed(many).all()
    assert shadow.recommender.users.slot("u99") >= 0
    assert shadow.recommender.users.slot("u0") == -1


def test_who_comes_back_just_when_room_is_made_keeps_their_history() -> None:
    shadow = Shadow(settings(**{"models.max_cached_users": 20}))
    shadow.feed(events(*((f"u{n}", "i0", "click", n) for n in range(20))))
    back = [(f"u{n}", "i1", "click", 100 + n) for n in range(5)]
    assert shadow.feed(events(*back, *((f"new{n}", "i2", "click", 110 + n) for n in range(5)))).all()
    users = shadow.recommender.users
    assert [users.events(users.slot(f"u{n}")) for n in range(5)] == [2] * 5
    assert all(users.slot(f"new{n}") >= 0 for n in range(5))


@hypothesis(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=200))
def test_a_small_memory_takes_any_order_of_users(numbers: list[int]) -> None:
    shadow = Shadow(settings(**{"models.max_cached_users": 16}))
    rows = [(f"u{n}", f"i{at % 7}", "click", at) for at, n in enumerate(numbers)]
    assert shadow.feed(events(*rows)).all()
    assert len(shadow.recommender.users) <= 16


def test_an_erased_user_is_new_again() -> None:
    shadow = Shadow(settings())
    shadow.feed(walks(users=2, steps=3))
    shadow.erase("u1")
    shadow.erase("nobody")
    window = GateWindow(size=5)
    shadow.feed(events(("u1", "i0", "click", 500)), window)
    assert window.scored == 0


def test_the_candidates_do_not_depend_on_how_the_stream_was_cut() -> None:
    stream = walks(users=5, steps=8)
    whole, pieces = Shadow(settings()), Shadow(settings())
    whole.feed(stream.slice(0, 20))
    for at in range(0, 20, 3):
        pieces.feed(stream.slice(at, min(at + 3, 20)))
    windows = GateWindow(size=99), GateWindow(size=99)
    whole.feed(stream.slice(20, 40), windows[0])
    for at in range(20, 40, 7):
        pieces.feed(stream.slice(at, min(at + 7, 40)), windows[1])
    assert windows[0].scored == windows[1].scored > 0
    for one, other in zip(windows[0]._candidates, windows[1]._candidates, strict=True):
        assert one.tolist() == other.tolist()
