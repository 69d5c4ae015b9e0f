from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from types import SimpleNamespace

import msgspec
import pytest

from producers.broken import KINDS
from producers.planted import STEPS, Shape
from producers.simulate import REPEATABLE, START_MS, Made, Simulation
from stream_app.batch.decode import EventDecoder
from stream_app.settings import EventSettings

DISTURBED = {"bots": 0.05, "duplicates": 0.1, "late": 0.05, "broken": 0.1, "drift": 0.5, "new_items": 0.2}


GOLDEN = "24131b08f95f13412964e22fde6af321212f7842b883258dfa9b482a2e115255"
"""Of the disturbed stream below: a change of it changes what the kill tests and benchmarks send."""


def simulation(**changes: object) -> Simulation:
    arguments: dict[str, object] = {"users": 50, "items": 100, "events": 3000}
    return Simulation(**(arguments | changes))  # type: ignore[arg-type]


def digest(made: Simulation) -> str:
    out = hashlib.sha256()
    for record in made.records():
        out.update(repr((record.kind, record.key, record.value)).encode())
    return out.hexdigest()


def events_of(made: Simulation, *kinds: str) -> list[tuple[Made, dict[str, object]]]:
    return [(m, msgspec.json.decode(m.value or b"")) for m in made.records() if m.kind in kinds]


def test_a_seed_gives_the_same_bytes_each_time() -> None:
    assert digest(simulation(**DISTURBED)) == digest(simulation(**DISTURBED))
    again = simulation(**DISTURBED)
    assert digest(again) == digest(again)


def test_the_bytes_of_a_seed_are_those_of_every_machine() -> None:
    assert digest(simulation(**DISTURBED, largest_bytes=2000)) == GOLDEN


def test_scenarios_are_those_of_the_items_and_change_nothing_else() -> None:
    made, plain = events_of(simulation(scenarios=3), "valid"), events_of(simulation(), "valid")
    for (_, event), (_, without) in zip(made, plain, strict=True):
        group = int(str(event["item_id"])[1:]) % simulation().world.shape.groups
        assert event == without | {"scenario": f"place {group % 3}"}


def test_another_seed_or_run_gives_other_events() -> None:
    assert digest(simulation(seed=1)) != digest(simulation())
    ids = {e["event_id"] for _, e in events_of(simulation(), "valid")}
    assert ids.isdisjoint({e["event_id"] for _, e in events_of(simulation(run_id="1"), "valid")})


def test_nothing_is_disturbed_by_default() -> None:
    made = simulation()
    ledger = made.account()
    assert (ledger.records, ledger.items, ledger.events_accepted) == (3000, 100, 3000)
    assert (ledger.duplicates, ledger.late, ledger.bots, ledger.dead_letters) == (0, 0, 0, 0)
    ids = [e["event_id"] for _, e in events_of(made, "valid")]
    assert len(set(ids)) == 3000


def test_each_disturbance_has_its_share() -> None:
    ledger = simulation(events=20_000, **DISTURBED).account()
    assert ledger.records == 20_000
    assert ledger.bots == pytest.approx(1000, rel=0.15)
    assert ledger.late == pytest.approx(1000, rel=0.15)
    assert ledger.dead_letters == pytest.approx(2000, rel=0.15)
    assert ledger.duplicates == pytest.approx(2000, rel=0.15)
    sparse = simulation(users=100_000, events=2000, duplicates=0.2).account()
    assert sparse.duplicates == pytest.approx(400, rel=0.2)
    assert ledger.events_accepted == 20_000 - ledger.duplicates - ledger.dead_letters


def test_the_reader_of_the_contract_agrees_with_the_ledger() -> None:
    made = simulation(events=10_000, largest_bytes=3000, **DISTURBED)
    decoder = EventDecoder(EventSettings(), ["events"])
    seen: set[int] = set()
    accepted: Counter[str] = Counter()
    repeated = 0
    for record in made.records():
        if record.kind == "item":
            continue
        read = decoder.decode(
            [
                SimpleNamespace(
                    topic="events",
                    partition=0,
                    offset=record.number,
                    timestamp=START_MS,
                    timestamp_type=0,
                    key=record.key,
                    value=record.value,
                    headers=(),
                )
            ],
            START_MS,
        )
        assert bool(read.dead_letters) == (record.kind == "broken"), (record, read.dead_letters)
        if read.dead_letters:
            assert read.dead_letters[0].reason == KINDS[record.broken], record
            continue
        (event_id,) = read.event_ids().tolist()
        assert (event_id in seen) == (record.kind == "duplicate"), record
        repeated += event_id in seen
        if event_id not in seen:
            accepted[read.user[0]] += 1
        seen.add(event_id)
    assert accepted == made.ledger.accepted
    assert repeated == made.ledger.duplicates
    assert set(made.ledger.broken) == set(KINDS)


def test_a_duplicate_repeats_one_of_the_users_latest_events() -> None:
    latest: dict[bytes | None, list[bytes | None]] = defaultdict(list)
    count = 0
    for record in simulation(duplicates=0.3).records():
        if record.kind == "valid":
            latest[record.key].append(record.value)
        elif record.kind == "duplicate":
            count += 1
            assert record.value in latest[record.key][-REPEATABLE:]
    assert count > 500


def test_a_late_event_is_older_than_all_before_it() -> None:
    newest = 0
    late = 0
    for record, event in events_of(simulation(late=0.1), "valid", "late"):
        ts = event["ts"]
        assert isinstance(ts, int)
        if record.kind == "late":
            late += 1
            assert ts < newest
        newest = max(newest, ts)
    assert late > 100


def test_most_events_are_of_the_users_group_and_a_bots_are_of_any() -> None:
    made = simulation(bots=0.3)
    right: dict[str, list[bool]] = {"valid": [], "bot": []}
    groups: dict[str, set[int]] = defaultdict(set)
    for record, event in events_of(made, "valid", "bot"):
        user, item = str(event["user_id"]), str(event["item_id"])
        right[record.kind].append(item in made.relevant(user, record.number))
        groups[user].add(made.world.group_of_item(item))
    assert sum(right["valid"]) / len(right["valid"]) > 0.85
    assert not any(right["bot"])
    assert groups["bot0"] == set(range(10))


def test_what_follows_on_the_ring_is_the_commonest_next_item() -> None:
    made = simulation(events=20_000, users=20, items=300, shape=Shape(noise=0.0, groups=3))
    last: dict[str, str] = {}
    hits = total = 0
    for _, event in events_of(made, "valid"):
        user, item = str(event["user_id"]), str(event["item_id"])
        if user in last:
            total += 1
            ring = made.world._ring[made.world.group_of_item(last[user])]
            place = ring.index(int(last[user][1:]))
            following = [ring[(place + step) % len(ring)] for step in range(1, len(STEPS) + 1)]
            hits += int(item[1:]) in following
        last[user] = item
    assert hits / total > 0.3  # by chance 3 of 100


def test_popularity_has_a_long_tail() -> None:
    flat = Counter(
        str(e["item_id"]) for _, e in events_of(simulation(shape=Shape(tail=0, follow=0)), "valid")
    )
    steep = Counter(
        str(e["item_id"]) for _, e in events_of(simulation(shape=Shape(tail=1.5, follow=0)), "valid")
    )
    assert steep.most_common(1)[0][1] > 2 * flat.most_common(1)[0][1]


def test_drift_moves_users_to_other_groups() -> None:
    for share, moved in ((0.0, 0), (1.0, 50)):
        made = simulation(drift=share)
        changed = [u for u in range(50) if made.group_of(f"u{u}", 0) != made.group_of(f"u{u}", 3000)]
        assert len(changed) == moved
    made = simulation(drift=1.0, shape=Shape(noise=0.0))
    for record, event in events_of(made, "valid"):
        assert str(event["item_id"]) in made.relevant(str(event["user_id"]), record.number)


@pytest.mark.parametrize(("bursts", "lots"), [(0, 20), (2, 2)])
def test_new_items_are_announced_before_they_are_used(bursts: int, lots: int) -> None:
    made = simulation(new_items=0.2, shape=Shape(bursts=bursts))
    announced: set[str] = set()
    moments = Counter()  # type: Counter[int]
    for record in made.records():
        event = msgspec.json.decode(record.value or b"")
        if record.kind == "item":
            announced.add(event["item_id"])
            moments[record.number] += 1
        else:
            assert event["item_id"] in announced
            assert (
                event["item_id"] in made.relevant(event["user_id"], record.number) or made.world.shape.noise
            )
    assert len(announced) == 100
    assert moments.pop(0) == 80
    assert len(moments) == lots


def test_sizes_and_shares_that_make_no_sense_are_refused() -> None:
    for wrong in ({"users": 0}, {"events": 0}, {"late": 1.5}, {"broken": 0.6, "bots": 0.6}, {"drift": -0.1}):
        with pytest.raises(ValueError, match=r"at least 1|share|more than all"):
            simulation(**wrong)
    with pytest.raises(ValueError, match="3 items can't make 10 groups"):
        simulation(items=3, shape=Shape())
    assert simulation(items=3, events=10).account().events_accepted == 10
