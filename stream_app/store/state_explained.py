"""Why a user of a stopped worker's state would be shown what they would be shown (`models.explanation`).

In: an open `StateStore`, the worker's settings, a user, a snapshot of the Transformer where it is to have its say. Out:
plain values for JSON, and the same for people. Never writes. The list is made anew from the state: beside the last
published one it can differ by what the `items` topic says of items, by the snapshot, and by who is drawn where places
are given by lot. Which snapshot is live, a pointer on the `models` topic says, which is not read here.
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
    """The item is unknown to the state, or there is no usable snapshot, or more than one."""


def explain_user(
    store: StateStore, settings: Settings, user_id: str, item_id: str | None, snapshots: Path | None
) -> dict[str, Any]:
    """The explanation of a user's list, or of one item for them.

    Raises:
        UnknownUserError: no partition holds the user.
        NothingToExplainError: the state has no such item, or the folder not one readable snapshot of the Transformer.
        StateError: the state was made with other settings.
    """
    if store.identity is not None:
        check_settings(store.directory, store.identity.settings, identity_of(settings).settings)
    recommender = new_recommender(settings)
    recommender.load(store.items(), store.model_meta())
    slot = _admit(store, recommender, user_id)
    version = None
    if snapshots is not None:
        version = _set_snapshot(recommender, settings, snapshots)
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
        "ranker": settings.models.ranker,
        "snapshot": version,
        "history": [name(item) for item in found.history],
        "items": [_told(one, name) for one in found.explained],
        "withheld": [{"item_id": name(w.item), "place": w.place, "reason": w.reason} for w in found.withheld],
        "by_lot": None
        if found.lot is None
        else {
            "places": [found.lot.first, found.lot.last],
            "among": found.lot.among,
            "at_most": found.lot.at_most,
        },
    }


def readable(found: dict[str, Any]) -> str:
    """`explain_user`'s answer as lines for people."""
    lines = [f"user {found['user_id']}, {found['ranker']} {found['snapshot'] or 'left out'}"]
    for item in found["items"]:
        place = f"{item['place']}." if item["place"] else "not listed:"
        by = ", ".join(item["proposed_by"]) or "nobody"
        lines.append(f"{place} {item['item_id']}  score {item['score']:+.3f}, proposed by {by}")
        parts = sorted(item["parts"].items(), key=lambda part: -abs(part[1]))[:CAUSES]
        lines.append("   sources: " + ", ".join(f"{name} {value:+.3f}" for name, value in parts))
        lines += [f"   without {cause['item_id']}: {-cause['loss']:+.3f}" for cause in item["causes"]]
    if found["by_lot"]:
        lot = found["by_lot"]
        fewer = ", or fewer" if lot["at_most"] else ""
        lines.append(
            f"{_places(*lot['places'])}{fewer}: by lot among {lot['among']:,} new items and those that `items`"
            " announces; drawn for each list anew, by the place of its event in the log"
        )
    lines += [
        f"withheld: {item['item_id']}, which would be at {item['place']} ({item['reason']})"
        for item in found["withheld"]
    ]
    return "\n".join(lines)


def _places(first: int, last: int) -> str:
    return f"place {first}" if first == last else f"places {first}–{last}"


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


def _set_snapshot(recommender: Recommender, settings: Settings, folder: Path) -> str:
    """Score with this snapshot, or with the only one in this folder; its version."""
    from models.sequence.reranker import Reranker
    from models.sequence.snapshot import SnapshotError, read
    from stream_app.training.ranker import TRANSFORMER, name_in

    versions = versions_on_disk(folder)
    if len(versions) > 1:
        raise NothingToExplainError(
            f"{folder} holds {len(versions)} snapshots, and the state does not say which is live: "
            + ", ".join(versions),
            f"Name one, such as --snapshots {folder / versions[-1]}; `headrace models list` marks the live one.",
        )
    chosen = folder / versions[0] if versions else folder
    name, wanted = name_in(chosen), settings.models.ranker
    if name != TRANSFORMER:
        raise NothingToExplainError(
            f"{chosen} is a snapshot of {name}, and only the Transformer's say can be told apart",
            "Leave --snapshots away, and the other sources are explained.",
        )
    try:
        snapshot = read(chosen)
    except SnapshotError as error:
        raise NothingToExplainError(
            str(error), "Give --snapshots the trainer's folder of snapshots, or one of those in it."
        ) from error
    if wanted != TRANSFORMER:
        raise NothingToExplainError(
            f"{chosen} is a snapshot of the Transformer, but models.ranker is {wanted}",
            "Leave --snapshots away, or give the settings that the worker has.",
        )
    reranker = Reranker(snapshot, "cpu", cached_users=0)
    recommender.set_reranker(reranker)
    return reranker.version
