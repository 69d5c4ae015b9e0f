"""Why a user of a stopped worker's state would be shown what they would be shown (`models.explanation`).

In: an open `StateStore`, the worker's settings, a user, snapshots of the Transformer where it is to have its say. Out:
plain values for JSON, and the same for people. Never writes. The list is made anew from the state: beside the last
published one it can differ by what the `items` topic says of availability, and by the snapshot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.explanation.explain import Explained, UnknownItemError, explain
from models.pipeline.recommender import Recommender
from stream_app.errors import HeadraceError
from stream_app.settings import Settings
from stream_app.store.state import StateStore
from stream_app.store.state_identity import check_settings, identity_of
from stream_app.store.state_tools import UnknownUserError
from stream_app.training.model_versions import versions_on_disk
from stream_app.worker.new_recommender import new_recommender

ROUNDING = 1e-6
"""A part of a score that is no larger is what float32 left over."""
CAUSES = 5
"""History items that are told of each listed item."""


class NothingToExplainError(HeadraceError):
    """The item is unknown to the state, or there is no usable snapshot."""


def explain_user(
    store: StateStore, settings: Settings, user_id: str, item_id: str | None, snapshots: Path | None
) -> dict[str, Any]:
    """The explanation of a user's list, or of one item for them.

    Raises:
        UnknownUserError: no partition holds the user.
        NothingToExplainError: the state has no such item, or the folder no readable snapshot.
        StateError: the state was made with other settings.
    """
    if store.identity is not None:
        check_settings(store.directory, store.identity.settings, identity_of(settings).settings)
    recommender = new_recommender(settings)
    recommender.load(store.items(), store.model_meta())
    slot = _admit(store, recommender, user_id)
    version = None
    if snapshots is not None:
        version = _set_snapshot(recommender, snapshots)
    catalogue = recommender.catalogue
    number = None if item_id is None else catalogue.number(item_id)
    try:
        found = explain(recommender, slot, number)
    except UnknownItemError as error:
        raise NothingToExplainError(
            f"the state in {store.directory} holds no item {item_id!r}",
            "Ids are compared exactly; an item is known from its first event on.",
        ) from error

    def name(item: int) -> str | None:
        return catalogue.id_of(item)

    return {
        "user_id": user_id,
        "transformer": version,
        "history": [name(item) for item in found.history],
        "items": [_told(one, name) for one in found.explained],
        "withheld": [{"item_id": name(w.item), "place": w.place, "reason": w.reason} for w in found.withheld],
    }


def readable(found: dict[str, Any]) -> str:
    """`explain_user`'s answer as lines for people."""
    lines = [f"user {found['user_id']}, Transformer {found['transformer'] or 'left out'}"]
    for item in found["items"]:
        place = f"{item['place']}." if item["place"] else "not listed:"
        by = ", ".join(item["proposed_by"]) or "nobody"
        lines.append(f"{place} {item['item_id']}  score {item['score']:+.3f}, proposed by {by}")
        parts = sorted(item["parts"].items(), key=lambda part: -abs(part[1]))[:CAUSES]
        lines.append("   sources: " + ", ".join(f"{name} {value:+.3f}" for name, value in parts))
        lines += [f"   without {cause['item_id']}: {-cause['loss']:+.3f}" for cause in item["causes"]]
    lines += [
        f"withheld: {item['item_id']}, which would be at {item['place']} ({item['reason']})"
        for item in found["withheld"]
    ]
    return "\n".join(lines)


def _told(one: Explained, name: Any) -> dict[str, Any]:
    return {
        "item_id": name(one.item),
        "place": one.place,
        "score": one.score,
        "source": one.source,
        "proposed_by": one.proposed_by,
        "parts": one.parts,
        "causes": [
            {
                "item_id": name(cause.item),
                "loss": cause.loss,
                "by_source": {
                    source: value for source, value in cause.by_source.items() if abs(value) > ROUNDING
                },
                "terms": cause.terms,
            }
            for cause in one.causes[:CAUSES]
        ],
    }


def _admit(store: StateStore, recommender: Recommender, user_id: str) -> int:
    for partition in store.partitions():
        (data,) = store.load_users(partition, [user_id])
        if data is not None:
            return recommender.users.admit(user_id, partition, data)
    raise UnknownUserError(
        f"the state in {store.directory} holds no user {user_id!r}",
        "Ids are compared exactly; `headrace state dump` lists the users that there are.",
    )


def _set_snapshot(recommender: Recommender, folder: Path) -> str:
    """Score with this snapshot, or with the newest one in this folder; its version."""
    from models.family.snapshot import of_family
    from models.sequence.reranker import Reranker
    from models.sequence.snapshot import SnapshotError, read

    versions = versions_on_disk(folder)
    chosen = folder / versions[-1] if versions else folder
    if of_family(chosen):
        raise NothingToExplainError(
            f"{chosen} is a snapshot of another model than the Transformer",
            "Its say can't be told apart yet: leave --snapshots away, and the other sources are explained.",
        )
    try:
        reranker = Reranker(read(chosen), "cpu", cached_users=0)
    except SnapshotError as error:
        raise NothingToExplainError(
            str(error), "Give --snapshots the trainer's folder of snapshots, or one of those in it."
        ) from error
    recommender.set_reranker(reranker)
    return reranker.version
