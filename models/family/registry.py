"""The family by name: what `headrace evaluate --models` and settings can ask for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from models.family.contract import Content, Model

MODELS: dict[str, str] = {
    "popularity": "models.family.classic.popularity:Popularity",
    "content": "models.family.classic.content:ContentBased",
    "item-item": "models.family.classic.item_knn:ItemKNN",
    "user-user": "models.family.classic.user_knn:UserKNN",
    "biased-mf": "models.family.classic.biased_mf:BiasedMF",
    "ials": "models.family.classic.ials:IALS",
    "eals": "models.family.classic.eals:EALS",
    "hybrid-weighted": "models.family.classic.hybrid:WeightedHybrid",
    "hybrid-switching": "models.family.classic.hybrid:SwitchingHybrid",
    "hybrid-cascade": "models.family.classic.hybrid:CascadeHybrid",
    "matrix-factorisation": "models.family.neural.bpr_mf:BPRMF",
    "mlp": "models.family.neural.neumf:MLP",
    "neumf": "models.family.neural.neumf:NeuMF",
    "two-tower": "models.family.neural.two_tower:TwoTower",
    "youtube-dnn": "models.family.neural.youtube_dnn:YouTubeDNN",
    "gru4rec": "models.family.neural.recurrent:GRU4Rec",
    "lstm": "models.family.neural.recurrent:LSTM",
    "sasrec": "models.family.neural.sasrec:SASRec",
    "unified": "models.family.neural.unified:Unified",
}
"""Name → module:class. A module is imported when its model is first asked for: torch is slow to load."""

NEEDS = {"content": "content", "biased-mf": "ratings"}
"""What all scores of a model are made of, beside events: where there is none of it, its lists mean nothing."""


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


def with_defaults(name: str, settings: Mapping[str, Any], around: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and of `around` (a device, the scale of ratings) what the model can be told and was not.

    Members of a hybrid are told too. What is no model's settings is left for validation to refuse.

    >>> with_defaults("unified", {"high": 7}, {"low": 0, "high": 10, "depth": 3})
    {'low': 0, 'high': 7}
    """
    own = {key: value for key, value in around.items() if key in model_class(name).Settings.model_fields}
    return own | {key: _member(value, around) for key, value in settings.items()}


def _member(value: Any, around: Mapping[str, Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_member(one, around) for one in value]
    if not isinstance(value, Mapping) or value.get("model") not in MODELS:
        return value
    settings = value.get("settings", {})
    if not isinstance(settings, Mapping):
        return value
    return {**value, "settings": with_defaults(value["model"], settings, around)}


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
