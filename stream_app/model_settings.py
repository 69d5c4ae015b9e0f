"""Which setting of a model of the family is wrong, in a line for people.

In: what validation found, and the settings that were given. Out: a `UsageError` that names the setting by its path and
the model whose it is: in a hybrid that is the member, not the hybrid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stream_app.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError


def wrong_setting(error: ValidationError, where: str, name: str, settings: Mapping[str, Any]) -> UsageError:
    """The first thing that is wrong with `settings` of the model `name`, which were given at the path `where`."""
    from models.family.registry import MODELS, model_class

    first = error.errors(include_url=False)[0]
    owner, at = name, settings
    for part in first["loc"]:
        if part == "settings" and isinstance(at, Mapping) and at.get("model") in MODELS:
            owner = at["model"]
        try:
            at = at[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
    path = ".".join(str(part) for part in (where, *first["loc"]))
    return UsageError(
        f"{path}: {first['msg'].removeprefix('Value error, ')}",
        f"Settings of {owner}: {', '.join(model_class(owner).Settings.model_fields) or 'none'}",
    )
