"""A recommender as the settings want it, which has learned nothing yet.

In: the settings. Out: a `models.pipeline.recommender.Recommender`. What it is to start from is loaded by whoever asked.
"""

from __future__ import annotations

from models.pipeline.recommender import Recommender
from stream_app.settings import Settings


def new_recommender(settings: Settings, *, seed: int | None = None, baselines: bool = False) -> Recommender:
    """A recommender that has learned nothing.

    Args:
        seed: another one than the settings'.
        baselines: also make each single source's own lists.
    """
    events = settings.events
    return Recommender(
        settings.models,
        weights=events.weights,
        default_weight=events.default_weight,
        scale=(events.rating_low, events.rating_high),
        seed=settings.seed if seed is None else seed,
        baselines=baselines,
    )
