"""Content-based filtering: items that are described like those that the user liked; no other user matters.

An item is a vector of two parts side by side: its tokens weighted by TF-IDF, tf · log(N / df) (Salton, Buckley:
Term-Weighting Approaches in Automatic Text Retrieval, 1988), and its given embedding; each part has length 1, then the
whole. A user is the weighted mean of the history: a rating above the middle of the scale attracts, one below repels
(Rocchio's relevance feedback, 1971), an event without a rating attracts, and old events fade. The score is the cosine.

What is learned is the scale alone: an item is scored before its first click, a user after theirs. Where nothing is
known of an item or a user the score is 0, above that of what the user dislikes.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, diags_array, hstack

from models.base import F32, F64, I32
from models.config import Section
from models.family.contract import Arrays, Content, Interactions, Model, Queries, chosen
from models.family.parts.taken import fading, newest


class ContentSettings(Section):
    """How fast a taste fades."""

    half_life: float = Field(20.0, ge=0, description="of the weight in the history, in events; 0 for never")


class ContentBased(Model):
    """TF-IDF and given embeddings, cosine with a rating-weighted profile (Salton and Buckley 1988)."""

    name = "content"
    uses_content = True
    Settings: ClassVar[type[Section]] = ContentSettings
    settings: ContentSettings

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.scale = np.array([np.inf, -np.inf])  # lowest and highest rating so far
        self.described = described(self.content, self.n_items)
        self.partial_fit(events)

    def partial_fit(self, events: Interactions) -> None:
        if not len(events):
            return
        self.n_users = max(self.n_users, int(events.user.max()) + 1)
        n_items = max(self.n_items, int(events.item.max()) + 1)
        if n_items > self.n_items:
            self.n_items = n_items
            self.described.resize((n_items, self.described.shape[1]))
        rated = events.value[~np.isnan(events.value)]
        self.scale = np.array(
            [min(self.scale[0], rated.min(initial=np.inf)), max(self.scale[1], rated.max(initial=-np.inf))]
        )

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self.described = described(self.content, self.n_items)

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        history = newest(queries, self.n_items)
        weight = self.liking(history.value) * fading(history.age, self.settings.half_life)
        profile = history.matrix(weight, (len(queries), self.n_items)) @ self.described
        cosine = unit_rows(profile) @ self.described.T
        return chosen(cosine.toarray().astype(np.float32), items)

    def liking(self, value: F32) -> F64:
        """From -1 for the lowest rating to 1 for the highest, 0 in the middle; 1 where there is none to compare."""
        low, high = self.scale
        if not low < high:
            return np.ones(len(value))
        middle = (low + high) / 2.0
        return np.where(np.isnan(value), 1.0, np.clip((value - middle) / (high - middle), -1.0, 1.0))

    def arrays(self) -> Arrays:
        return {"scale": self.scale}

    def restore(self, arrays: Arrays) -> None:
        if arrays["scale"].shape != (2,):
            raise ValueError(f"scale has shape {arrays['scale'].shape}, not (2,)")
        self.scale = arrays["scale"].astype(np.float64)
        self.described = described(self.content, self.n_items)


def described(content: Content | None, n_items: int) -> csr_array:
    """A row of length 1 for each item that something is known of, zeros for the others, [n_items, features]."""
    parts = [csr_array((n_items, 0))]
    if content is not None and content.tokens:
        parts.append(unit_rows(tf_idf(content.tokens)))
    if content is not None and content.vectors is not None:
        parts.append(unit_rows(csr_array(content.vectors.astype(np.float64))))
    for part in parts:
        part.resize((n_items, part.shape[1]))
    return unit_rows(csr_array(hstack(parts, format="csr")))


def tf_idf(tokens: list[list[str]]) -> csr_array:
    """How often each item has each word, times log(N / df), float64 [items, words]; words in alphabetical order.

    N counts the items that have a word. One that all of them have tells nothing: 0.

    >>> (tf_idf([["a", "b", "b"], ["a"], []]).toarray() / np.log(2.0)).tolist()
    [[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    """
    words = sorted({word for item in tokens for word in item})
    number = {word: at for at, word in enumerate(words)}
    row = np.repeat(np.arange(len(tokens)), [len(item) for item in tokens])
    column = np.array([number[word] for item in tokens for word in item], np.int64)
    counts = csr_array((np.ones(len(row)), (row, column)), shape=(len(tokens), len(words)))
    counts.sum_duplicates()
    having = np.bincount(counts.indices, minlength=len(words))
    rarity = np.log(max(len(np.unique(row)), 1) / np.maximum(having, 1))
    return csr_array(counts @ diags_array(rarity))


def unit_rows(rows: csr_array) -> csr_array:
    """Rows of length 1; a row of zeros stays one."""
    length = np.sqrt((rows * rows).sum(axis=1))
    return csr_array(diags_array(1.0 / np.where(length > 0.0, length, 1.0)) @ rows)
