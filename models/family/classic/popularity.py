"""Popularity: what everybody takes, whoever asks; the baseline that each model has to beat.

An event's weight halves every `half_life` events, so that the list follows the times; 0 counts all alike.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from models.base import F32, I32
from models.config import Section
from models.family.contract import Arrays, Interactions, Model, Queries, chosen


class PopularitySettings(Section):
    """How fast old events lose their weight."""

    half_life: int = Field(0, ge=0, description="in events; 0 for never")


class Popularity(Model):
    """Decayed counts of events by item."""

    name = "popularity"
    Settings: ClassVar[type[Section]] = PopularitySettings
    settings: PopularitySettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.mass = np.zeros(self.n_items)
        self.partial_fit(events)

    def partial_fit(self, events: Interactions) -> None:
        if not len(events):
            return
        self.n_users = max(self.n_users, int(events.user.max()) + 1)
        self.n_items = max(self.n_items, int(events.item.max()) + 1)
        mass = np.zeros(self.n_items)
        life = self.settings.half_life
        decay = 0.5 ** (1.0 / life) if life else 1.0
        mass[: len(self.mass)] = self.mass * decay ** len(events)
        age = np.arange(len(events) - 1, -1, -1)
        mass += np.bincount(events.item, decay**age, minlength=self.n_items)
        self.mass = mass

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self.mass = np.concatenate([self.mass, np.zeros(self.n_items - len(self.mass))])

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        everyone = np.broadcast_to(self.mass.astype(np.float32), (len(queries), self.n_items))
        return chosen(everyone, items)

    def arrays(self) -> Arrays:
        return {"mass": self.mass}

    def restore(self, arrays: Arrays) -> None:
        if arrays["mass"].shape != (self.n_items,):
            raise ValueError(f"mass has shape {arrays['mass'].shape}, not {(self.n_items,)}")
        self.mass = arrays["mass"].astype(np.float64)
