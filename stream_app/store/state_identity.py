"""What a state was made with, and which changed settings it can live with.

In: settings as stored and as given now. Out: the changed ones that are free, or a StateError that names the
others and the ways out. Never reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_app.settings import Settings
from stream_app.store.state_folder import StateError

SCHEMA = 6
"""Version of the layout: column families, keys, and the codecs of the rows."""

READABLE = (3, 4, 5, SCHEMA)
"""Versions that this one reads; the next commit writes its own. 3: items have no popularity by scenario (`s` rows).
4: nothing was learned of pairs of items (`models.online.slim`), and the blend was linear. 5: unavailable items stood
among what is shared, and the first model was not named."""

FREE = (
    "events.",
    "models.candidates",
    "models.max_cached_users",
    "models.max_items",
    "models.policy.exploration",
    "models.policy.new_below",
    "models.policy.repeats",
    "models.ranker",
    "models.transformer.",
    "models.blend.lr",
    "models.blend.learn_within",
    "models.blend.share",
    "models.blend.floor",
    "models.blend.start_slim",
    "models.blend.layer_lr",
    "models.biased_mf.bias_lr",
    "models.biased_mf.latent_lr",
    "models.biased_mf.l2",
    "models.asymmetric_mf.lr",
    "models.asymmetric_mf.negatives",
    "models.asymmetric_mf.items",
    "models.asymmetric_mf.decay",
)
"""Paths that may change over a state: they say how to go on, not how the rows are laid out."""

TOPICS = "topics.events"


@dataclass(frozen=True, slots=True)
class Identity:
    """Schema version, and the settings that decide what is learned, by dotted path."""

    schema: int
    settings: Mapping[str, Any]


def identity_of(settings: Settings) -> Identity:
    """The identity of a state that these settings make."""
    meaning = {
        "seed": settings.seed,
        "topics": {"events": list(settings.topics.events)},
        "events": settings.events.model_dump(mode="json"),
        "models": settings.models.model_dump(mode="json"),
    }
    return Identity(SCHEMA, dict(_flat("", meaning)))


def check_settings(directory: Path, stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Paths that differ and may.

    Raises:
        StateError: some differ that the state can't live with.
    """
    changed = sorted(path for path in stored.keys() | given.keys() if stored.get(path) != given.get(path))
    # a setting that the state knows nothing of is newer than the state, which was made as if there were no such thing
    refused = [path for path in changed if (path in stored or not stored) and not path.startswith(FREE)]
    if TOPICS in refused and _continues(given[TOPICS], stored.get(TOPICS, [])):
        refused.remove(TOPICS)
    if refused:
        was = ", ".join(f"{path} was {stored.get(path)!r} and is now {given.get(path)!r}" for path in refused)
        raise StateError(
            f"the state in {directory} was made with other settings: {was}",
            "Set them back, or start over in a new --state-dir: the log is then read from its beginning.",
        )
    return changed


def _continues(topics: list[str], stored: list[str]) -> bool:
    """Whether topics were only added at the end: a user's row holds offsets by a topic's place in the list."""
    return topics[: len(stored)] == stored


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [
            pair
            for name, inner in value.items()
            for pair in _flat(f"{prefix}.{name}" if prefix else name, inner)
        ]
    return [(prefix, value)]
