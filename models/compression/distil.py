"""A small model that learns from a big one: from its scores, beside what users did.

In: a snapshot as the teacher, a trainer's settings. Out: a `Trainer` whose loss is that of `models.training.train`
and, by `share`, the cross-entropy to the teacher's softened scores of the same items (Hinton, Vinyals and Dean:
Distilling the Knowledge in a Neural Network, 2015; of rankings: Tang and Wang: Ranking Distillation, KDD 2018).
Never changes the teacher, and needs it for training only: what is served is the student's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.base import I64, Bool
from models.config import TransformerSettings
from models.sequence.encode import Events
from models.sequence.snapshot import Snapshot
from models.training.candidate_items import Choice
from models.training.softmax import softmax_loss
from models.training.train import Trainer
from models.training.windows import Batch
from models.vocabulary import row_of


class Student(Trainer):
    """A trainer that follows `teacher` where the teacher knows the items.

    `share` is the teacher's part of the loss, `temperature` what scores are divided by: the higher, the more the
    order of the improbable items counts. The teacher's term is multiplied by temperature², as in the paper, so that
    its gradient keeps its size.
    """

    def __init__(
        self,
        settings: TransformerSettings,
        seed: int,
        teacher: Snapshot,
        share: float = 0.5,
        temperature: float = 2.0,
        threads: int = 1,
        max_items: int = 200_000,
    ) -> None:
        manifest = teacher.manifest
        super().__init__(
            settings, teacher.model.band, seed, threads=threads, scale=manifest.scale, max_items=max_items
        )
        self.teacher, self.share, self.temperature = teacher.model, share, temperature
        self._row = {name: row for row, name in enumerate(manifest.item_ids, 1)}
        self._action = {name: row for row, name in enumerate(manifest.actions, 1)}
        self._row_of = self._action_of = np.zeros(1, np.int64)

    def _admit(self, items: Sequence[str], actions: Sequence[str], rng: np.random.Generator) -> None:
        super()._admit(items, actions, rng)
        self._row_of = _rows([None, *self.rows.ids], self._row)
        self._action_of = np.array([0, *(row_of(name, self._action) for name in self.actions)], np.int64)

    def _loss(self, events: Events, batch: Batch, known: Bool, choice: Choice) -> Tensor:
        read = events.take(batch.events)
        after = torch.from_numpy(batch.sources[known])
        query = self.model(*self._inputs(read, batch.segments))[after]
        rows = torch.from_numpy(choice.rows)
        correction = torch.from_numpy(choice.correction)
        vectors = functional.embedding(rows, self.model.item_vectors())
        bias = self.model.bias[rows] + correction
        weights = torch.from_numpy(batch.weights[known])
        labels = softmax_loss(query, vectors, bias, torch.from_numpy(choice.targets), weights)
        theirs = torch.from_numpy(self._row_of[choice.rows])
        # the teacher is not asked, or knows none of the items compared
        if not self.share or not theirs.any():
            return labels
        with torch.no_grad():
            seen = Events(
                self._row_of[read.rows].astype(np.int32),
                self._action_of[read.actions].astype(np.int32),
                read.values,
                read.gaps,
            )
            taught = self.teacher(*self._inputs(seen, batch.segments))[after]
            soft = torch.addmm(self.teacher.bias[theirs], taught, self.teacher.item_vectors()[theirs].T)
            # drawn items stand for others after softening as before it; what the teacher lacks says nothing
            soft = (soft / self.temperature + correction).masked_fill(theirs == 0, -torch.inf)
            target = torch.softmax(soft, 1)
        own = torch.addmm(self.model.bias[rows], query, vectors.T) / self.temperature + correction
        own = own.masked_fill(theirs == 0, -1e9)
        follow = -(target * torch.log_softmax(own, 1)).sum(1)
        taught_loss: Tensor = (follow * weights).mean() * self.temperature**2
        return (1 - self.share) * labels + self.share * taught_loss


def _rows(names: list[str | None], row: dict[str, int]) -> I64:
    """The teacher's row for each of the student's; 0 where it has none."""
    return np.array([row.get(name, 0) if name is not None else 0 for name in names], np.int64)
