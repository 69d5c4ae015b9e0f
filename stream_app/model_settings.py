"""Which setting of a model of the family is wrong, in a line for people.

In: what validation found, and the settings that were given. Out: a `UsageError` that names the setting by its path and
the model whose it is: in a hybrid that is the member, not the hybrid.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stream_app.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError


def check(name: str, given: Mapping[str, Any], where: str) -> None:
    """Refuse settings that the model does not have, or not with this value; `where` is the path they were given at."""
    from pydantic import ValidationError

    from models.family.registry import model_class

    try:
        model_class(name).Settings(**given)
    except ValidationError as error:
        raise wrong_setting(error, where, name, given) from None


def wrong_setting(error: ValidationError, where: str, name: str, given: Mapping[str, Any]) -> UsageError:
    """The first thing that is wrong with these settings of the model `name`."""
    from models.family.registry import MODELS, model_class

    first = error.errors(include_url=False)[0]
    owner, at = name, given
    for part in first["loc"]:
        if part == "settings" and isinstance(at, Mapping) and at.get("model") in MODELS:
            owner = at["model"]
        try:
            at = at[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
    path = ".".join(str(part) for part in (where, *first["loc"]))
    hint = f"`headrace settings --model {owner}` lists what there is."
    if first["type"] != "extra_forbidden":
        return UsageError(f"{path}: {first['msg'].removeprefix('Value error, ')}", hint)
    known = model_class(owner).Settings.model_fields
    close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    return UsageError(f"{path}: no such setting" + (f"; did you mean {close[0]}?" if close else ""), hint)
