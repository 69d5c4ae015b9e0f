"""What a catalogue says of items, as a model of the family takes it in: tokens, and ready-made embeddings.

In: titles, texts, categories, tags, prices, named embeddings. Out: a `Description` an item, and `Content` with a row an
item code. Never learns, and never looks at an event.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.base import F32
from models.family.contract import Content

WORD = re.compile(r"[^\W_]+")
MAX_TOKENS = 256
"""Of an item: further ones are left out."""
MAX_NUMBERS = 4096
"""Of an item's embeddings together: an embedding that would go beyond it is left out."""


@dataclass(frozen=True, slots=True)
class Description:
    """One item. An embedding is float32 [d], of whatever length its name has elsewhere."""

    tokens: tuple[str, ...] = ()
    embeddings: Mapping[str, F32] = field(default_factory=dict)


def tokens_of(
    title: str | None = None,
    text: str | None = None,
    categories: Iterable[str] = (),
    tags: Iterable[str] = (),
    price: float | None = None,
) -> tuple[str, ...]:
    """Words of the title and the text, lower-cased; categories, tags and the price, each a token marked as what it is.

    So a film called "Drama" is not taken for a drama. Prices are alike when they are within a factor of two.

    >>> tokens_of("Up", categories=["Drama"], price=9.99)
    ('up', 'category:drama', 'price:3')
    """
    marked = [f"category:{name.lower()}" for name in categories] + [f"tag:{name.lower()}" for name in tags]
    if price is not None and 0.0 < price < math.inf:
        marked.append(f"price:{math.floor(math.log2(price))}")
    words = [word.lower() for part in (title, text) if part for word in WORD.findall(part)]
    return tuple((words[: max(MAX_TOKENS - len(marked), 0)] + marked)[:MAX_TOKENS])


def embedding_of(given: Sequence[float]) -> F32 | None:
    """A ready-made embedding as float32 [d]; None where it is too long or not finite."""
    if len(given) > MAX_NUMBERS:
        return None
    with np.errstate(over="ignore"):
        vector = np.array(given, np.float32)
    return vector if np.isfinite(vector).all() else None


def content_of(item_ids: Sequence[str], known: Mapping[str, Description]) -> Content | None:
    """The descriptions of these items as a model takes them, a row an item; None where nothing is said of any.

    Embeddings of one name have the length that most items give it; one of another length is left out. Names that more
    items have come first.
    """
    nothing = Description()
    told = [known.get(item_id, nothing) for item_id in item_ids]
    parts = []
    width = 0
    having = Counter(name for one in told for name in one.embeddings)
    for name in sorted(having, key=lambda name: (-having[name], name)):
        lengths = Counter(len(one.embeddings[name]) for one in told if name in one.embeddings)
        length = max(sorted(lengths), key=lambda length: lengths[length])
        if length == 0 or width + length > MAX_NUMBERS:
            continue
        width += length
        part = np.zeros((len(told), length), np.float32)
        for row, one in enumerate(told):
            given = one.embeddings.get(name)
            if given is not None and len(given) == length:
                part[row] = given / max(float(np.linalg.norm(given)), 1e-12)
        parts.append(part)
    tokens = [list(one.tokens) for one in told]
    if not parts and not any(tokens):
        return None
    return Content(tokens, np.concatenate(parts, axis=1) if parts else None)
