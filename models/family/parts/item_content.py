"""What is known of items beside the events, as numbers that a network can learn from.

In: `Content`. Out: for each item the tokens it has, as hashed buckets with TF-IDF weights, and its ready-made vector.
A token that one item alone has says nothing of another item, and is left out. Never learns: the vectors that the
buckets stand for are the network's.

Weinberger et al.: Feature Hashing for Large Scale Multitask Learning, ICML 2009.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from models.base import F32, I64, Bool
from models.family.contract import Content
from models.randomness import hash64
from models.sequence.encode import ragged


@dataclass(frozen=True, slots=True)
class ItemContent:
    """Descriptions, a row an item row of the network's tables: row 0 and items without content are empty.

    Attributes:
        starts: where each row's tokens begin, and their number at the end, int64 [rows + 1].
        buckets, weights: bucket and weight of each token, int64 [tokens], float32 [tokens]; the squares of the weights
            of an item add up to 1.
        vectors: ready-made embeddings, of length 1 or 0, float32 [rows, d]; d is 0 where there are none.
    """

    starts: I64
    buckets: I64
    weights: F32
    vectors: F32

    def __len__(self) -> int:
        return len(self.vectors)

    def described(self) -> Bool:
        """Which rows say anything, bool [rows]."""
        said: Bool = (np.diff(self.starts) > 0) | (np.abs(self.vectors).sum(1) > 0)
        return said

    def take(self, rows: I64) -> ItemContent:
        """The descriptions of these rows; a row beyond those that are known has none."""
        known = rows < len(self)
        at = np.where(known, rows, 0)  # row 0 is empty
        sizes = self.starts[at + 1] - self.starts[at]
        tokens = ragged(self.starts[at], sizes)
        starts = np.concatenate(([0], np.cumsum(sizes)))
        return ItemContent(starts, self.buckets[tokens], self.weights[tokens], self.vectors[at])


def described(content: Content | None, buckets: int) -> ItemContent:
    """Content by item row, tokens hashed into so many buckets."""
    tokens = [] if content is None else content.tokens
    vectors = None if content is None else content.vectors
    items = 0 if content is None else len(content)
    shared = Counter(token for some in tokens for token in set(some))
    starts, numbers, weights = [0, 0], [], []
    for some in tokens:
        counts = Counter(token for token in some if shared[token] > 1)
        tf_idf = [count * math.log(1.0 + len(tokens) / shared[token]) for token, count in counts.items()]
        length = math.hypot(*tf_idf)
        numbers += [hash64(token) % buckets for token in counts]
        weights += [weight / length for weight in tf_idf]
        starts.append(len(numbers))
    starts += [len(numbers)] * (items + 2 - len(starts))
    given = np.zeros((items + 1, 0 if vectors is None else vectors.shape[1]), np.float32)
    if vectors is not None:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        given[1 : len(vectors) + 1] = vectors / np.where(lengths > 0, lengths, 1.0)
    return ItemContent(
        np.array(starts, np.int64), np.array(numbers, np.int64), np.array(weights, np.float32), given
    )
