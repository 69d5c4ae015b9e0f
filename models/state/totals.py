"""Running totals of the learning and the always-on evaluation: names, and the figures made of them."""

from __future__ import annotations

from models.base import F64

NAMES = (
    "accepted",  # the clock: events applied to every part of the state
    "duplicates",
    "late",
    "repeats",  # of an item that the user already had: learned from, not scored
    "scored",
    "hits",
    "ndcg",
    "popularity_hits",
    "popularity_ndcg",
    "sample_scored",  # the seeded sample of users for whom the frozen first model makes lists too
    "sample_hits",
    "sample_ndcg",
    "frozen_hits",
    "frozen_ndcg",
    "lists",
    "items_listed",
    "novelty",
    "pairs",
    "distance",
    "covisit_mass",
    "popularity_mass",
    "ranked_updates",  # steps of asymmetric MF
    "ratings",
    "rating_absolute_error",
    "rating_squared_error",
    "blend_steps",
    "items_with_events",
    "items_shown",
    "items_evicted",
    "slots_used",  # every item that ever had an event has its slot below this
)
INDEX = {name: i for i, name in enumerate(NAMES)}

(
    ACCEPTED, DUPLICATES, LATE, REPEATS, SCORED, HITS, NDCG, POPULARITY_HITS, POPULARITY_NDCG, SAMPLE_SCORED,
    SAMPLE_HITS, SAMPLE_NDCG, FROZEN_HITS, FROZEN_NDCG, LISTS, ITEMS_LISTED, NOVELTY, PAIRS, DISTANCE,
    COVISIT_MASS, POPULARITY_MASS, RANKED_UPDATES, RATINGS, RATING_ABSOLUTE_ERROR, RATING_SQUARED_ERROR,
    BLEND_STEPS, ITEMS_WITH_EVENTS, ITEMS_SHOWN, ITEMS_EVICTED, SLOTS_USED,
) = range(len(NAMES))  # fmt: skip

OF_THE_SAMPLE = (SAMPLE_SCORED, SAMPLE_HITS, SAMPLE_NDCG, FROZEN_HITS, FROZEN_NDCG)
"""What is served beside the frozen first model."""


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


def figures(totals: F64, k: int) -> dict[str, float]:
    """The figures of the totals, by their usual names.

    Args:
        totals: float64 [len(NAMES)].
        k: length of a list.
    """
    t = {name: float(totals[i]) for name, i in INDEX.items()}
    scored, sample = t["scored"], t["sample_scored"]
    return {
        "events": t["accepted"],
        "duplicates": t["duplicates"],
        "late": t["late"],
        "repeats": t["repeats"],
        "scored": scored,
        f"hr@{k}": _ratio(t["hits"], scored),
        f"ndcg@{k}": _ratio(t["ndcg"], scored),
        f"popularity_hr@{k}": _ratio(t["popularity_hits"], scored),
        f"popularity_ndcg@{k}": _ratio(t["popularity_ndcg"], scored),
        "sample_scored": sample,
        f"sample_hr@{k}": _ratio(t["sample_hits"], sample),
        f"sample_ndcg@{k}": _ratio(t["sample_ndcg"], sample),
        f"frozen_hr@{k}": _ratio(t["frozen_hits"], sample),
        f"frozen_ndcg@{k}": _ratio(t["frozen_ndcg"], sample),
        "lists": t["lists"],
        "coverage": _ratio(t["items_shown"], t["items_with_events"]),
        "novelty": _ratio(t["novelty"], t["items_listed"]),
        "diversity": _ratio(t["distance"], t["pairs"]),
        "ratings": t["ratings"],
        "mae": _ratio(t["rating_absolute_error"], t["ratings"]),
        "rmse": _ratio(t["rating_squared_error"], t["ratings"]) ** 0.5,
        "blend_steps": t["blend_steps"],
        "items": t["items_with_events"],
        "items_evicted": t["items_evicted"],
        "covisit_mass": t["covisit_mass"],
        "popularity_mass": t["popularity_mass"],
        "ranked_updates": t["ranked_updates"],
    }
