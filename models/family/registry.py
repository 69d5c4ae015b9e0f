"""The family by name: what `headrace evaluate --models` and settings can ask for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from models.family.contract import Content, Model

MODELS: dict[str, str] = {
    "popularity": "models.family.popularity:Popularity",
    "content": "models.family.content:ContentBased",
    "item-item": "models.family.item_knn:ItemKNN",
    "user-user": "models.family.user_knn:UserKNN",
    "biased-mf": "models.family.biased_mf:BiasedMF",
    "ials": "models.family.ials:IALS",
    "eals": "models.family.eals:EALS",
    "hybrid-weighted": "models.family.hybrid:WeightedHybrid",
    "hybrid-switching": "models.family.hybrid:SwitchingHybrid",
    "hybrid-cascade": "models.family.hybrid:CascadeHybrid",
    "matrix-factorisation": "models.family.bpr_mf:BPRMF",
    "mlp": "models.family.neumf:MLP",
    "neumf": "models.family.neumf:NeuMF",
    "two-tower": "models.family.two_tower:TwoTower",
    "youtube-dnn": "models.family.youtube_dnn:YouTubeDNN",
    "gru4rec": "models.family.recurrent:GRU4Rec",
    "lstm": "models.family.recurrent:LSTM",
    "sasrec": "models.family.sasrec:SASRec",
    "unified": "models.family.unified:Unified",
}
"""Name → module:class. A module is imported when its model is first asked for: torch is slow to load."""


def model_class(name: str) -> type[Model]:
    """The class of this name.

    Raises:
        ValueError: there is none; the message lists what there is.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    found: type[Model] = getattr(import_module(module), attribute)
    return found


def make(
    name: str, settings: dict[str, Any] | None = None, *, seed: int = 0, content: Content | None = None
) -> Model:
    """A model of this name that has learned nothing.

    Raises:
        ValueError: no such model.
        pydantic.ValidationError: a setting that it does not have, or out of range.
    """
    cls = model_class(name)
    return cls(cls.Settings(**(settings or {})), seed=seed, content=content)
