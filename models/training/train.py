"""Trains the Transformer: a refresh continues from where the last one ended.

In: the event log, the number of the first event that is new since the last refresh, how many tokens to train.
Out: weights to take a snapshot of. Never reads a clock or decides when to train.

One third of the trained tokens are new events, two thirds a uniform replay of the history, in small batches
(512 tokens: batches of 4,096 learned far too slowly), with AdamW at a constant rate; what is served is the
moving average of the weights. Everything random is keyed by (seed, refresh, step), so on one device with one
number of threads a history gives the same weights, however often training was interrupted between refreshes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import I64, Bool
from models.config import TransformerSettings
from models.sequence.encode import Events
from models.sequence.transformer import INIT, CausalTransformer
from models.training.candidate_items import Choice, choose
from models.training.checkpoint import load_trainer, save_trainer
from models.training.event_log import MAX_ACTIONS, EventLog, Sequences
from models.training.softmax import softmax_loss
from models.training.table_rows import Rows
from models.training.windows import Batch, batches, plan

AVERAGING = 0.99
"""Weight of the past in the moving average of the weights: the last hundred steps or so."""
CONTEXT = 24
"""Events read, but not predicted, before a window that is not full."""
CANDIDATES = 1024
"""Items, beside the targets, among which a step tells the targets apart."""


class InterruptedTrainingError(Exception):
    """Training was stopped half-way: load the last checkpoint before going on."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a refresh did: steps, trained tokens, mean loss over its last tenth (NaN without steps)."""

    steps: int
    tokens: int
    loss: float


class Trainer:
    """Weights, optimiser and counters of one model line.

    Attributes:
        rows: the item of each row of the table.
        actions: kinds of events (`models.vocabulary`); the first has action row 1.
        steps, refreshes: done so far; what randomness is keyed by.
        trained_to: absolute number after the newest event that was in the log at the last refresh.
    """

    def __init__(
        self,
        settings: TransformerSettings,
        band: int,
        seed: int,
        device: str | torch.device = "cpu",
        threads: int = 1,
        *,
        scale: tuple[float, float] = (1.0, 5.0),
        replay_share: float = 2 / 3,
        max_items: int = 200_000,
    ) -> None:
        self.settings, self.band, self.seed, self.threads = settings, band, seed, threads
        self.scale, self.replay_share = scale, replay_share
        self.device = torch.device(device)
        self.rows = Rows(max_items)
        self.actions: list[str] = []
        self.steps = self.refreshes = self.trained_to = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = CausalTransformer(settings, 0, 0, band).to(self.device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.restart_optimizer({})

    @property
    def item_ids(self) -> list[str]:
        """The items that have a row."""
        return [name for name in self.rows.ids if name is not None]

    def save(self, folder: Path) -> None:
        """Write a checkpoint to `folder`, in place of the one there."""
        save_trainer(self, folder)

    def load(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`; raises CheckpointError where it can't be used."""
        load_trainer(self, folder)

    def restart_optimizer(self, moments: Mapping[Tensor, dict[str, Any]]) -> None:
        """An optimiser over the weights as they are now, with what it knows of them."""
        rate, decay = self.settings.lr, self.settings.weight_decay
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        self.optimizer.state.update(moments)

    def refresh(
        self, log: EventLog, new_from: int, tokens: int, stop: Callable[[], bool] | None = None
    ) -> Refresh:
        """Train about `tokens` tokens; the events from absolute number `new_from` on are new.

        `stop` is asked before each step: InterruptedTrainingError is raised when it says so.
        """
        torch.set_num_threads(self.threads)
        rng = np.random.Generator(np.random.SFC64([self.seed, self.refreshes]))
        self._admit(log.items_held(), log.actions, rng)
        sequences = log.sequences()
        events = self._events(log, sequences)
        windows = plan(sequences, new_from, tokens, self.replay_share, self.settings.window, CONTEXT, rng)
        losses: list[float] = []
        trained = 0
        self.model.train()
        for batch in batches(sequences, windows, self.settings.batch_tokens):
            if stop is not None and stop():
                raise InterruptedTrainingError(
                    f"training stopped after {len(losses)} steps of refresh {self.refreshes}"
                )
            loss, n = self._step(events, batch)
            losses.append(loss)
            trained += n
        self.refreshes += 1
        self.trained_to = log.end
        last = losses[-max(len(losses) // 10, 1) :]
        return Refresh(len(losses), trained, float(np.mean(last)) if last else float("nan"))

    def _events(self, log: EventLog, sequences: Sequences) -> Events:
        """The events of a log as the model reads them."""
        row_of = {name: row for row, name in enumerate(self.actions, 1)}
        actions = np.array([row_of.get(name, 0) for name in log.actions], np.int32)
        return Events(
            rows=self.rows.of(log.items.ids)[sequences.item],
            actions=actions[sequences.action],
            values=sequences.value,
            gaps=sequences.gap,
        )

    def _step(self, events: Events, batch: Batch) -> tuple[float, int]:
        """One optimiser step; the loss and the number of predictions."""
        known = events.rows[batch.targets] > 0
        if not known.any():
            return float("nan"), 0
        self.model.noise.key(self.seed, self.steps)
        targets = events.rows[batch.targets[known]]
        choice = choose(targets, self.model.n_items, CANDIDATES, self.seed, self.steps)
        loss = self._loss(events, batch, known, choice)
        self._descend(loss)
        return float(loss.detach()), int(known.sum())

    def _loss(self, events: Events, batch: Batch, known: Bool, choice: Choice) -> Tensor:
        """The mean loss of a batch's predictions; `known` [m] are those whose target has a row."""
        model, to = self.model, self.device
        query = model(*self._inputs(events.take(batch.events), batch.segments))
        candidates = torch.from_numpy(choice.rows).to(to)
        return softmax_loss(
            query[torch.from_numpy(batch.sources[known]).to(to)],
            functional.embedding(candidates, model.item_vectors()),
            model.bias[candidates] + torch.from_numpy(choice.correction).to(to),
            torch.from_numpy(choice.targets).to(to),
            torch.from_numpy(batch.weights[known]).to(to),
        )

    def _inputs(self, events: Events, segments: I64) -> tuple[Tensor, Tensor, Tensor]:
        """What the model reads: buckets [4, n], segments and positions [n]."""
        to = self.device
        return (
            torch.from_numpy(events.buckets(*self.scale)).to(to),
            torch.from_numpy(segments).to(to),
            torch.arange(len(events), device=to),
        )

    def _descend(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`, and the average follows."""
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - AVERAGING
            )
        self.steps += 1

    def _admit(self, items: Sequence[str], actions: Sequence[str], rng: np.random.Generator) -> None:
        """Rows for those of a history's items and kinds of events that are new."""
        fresh = self.rows.admit(items)
        new = [name for name in actions if name not in self.actions]
        self.actions += new[: MAX_ACTIONS - len(self.actions)]
        vectors = rng.standard_normal((len(fresh), self.settings.d_model)).astype(np.float32) * INIT
        unseen = rng.standard_normal((len(self.actions), self.settings.d_model)).astype(np.float32) * INIT
        added = list(range(self.model.n_actions + 1, len(self.actions) + 1))
        values = {
            "item": (len(self.rows), fresh, torch.from_numpy(vectors)),
            "bias": (len(self.rows), fresh, torch.zeros(len(fresh))),
            "action": (len(self.actions), added, torch.from_numpy(unseen[: len(added)])),
        }
        for name, (size, rows, initial) in values.items():
            if rows:
                self._replace(name, size + 1, rows, initial.to(self.device))

    def _replace(self, name: str, size: int, rows: list[int], initial: Tensor) -> None:
        """Grow a table to `size` rows, give `rows` their initial values, and start their moments at zero."""
        old: nn.Parameter = getattr(self.model, name)
        new = nn.Parameter(resized(old.detach(), size, rows, initial))
        setattr(self.model, name, new)
        served = resized(getattr(self.average, name).detach(), size, rows, initial)
        setattr(self.average, name, nn.Parameter(served, requires_grad=False))
        state = self.optimizer.state
        moments = state.get(old)
        kept: dict[Tensor, Any] = {p: state[p] for p in self.model.parameters() if p in state}
        if moments is not None:
            zeros = torch.zeros_like(initial)
            for moment in ("exp_avg", "exp_avg_sq"):
                moments[moment] = resized(moments[moment], size, rows, zeros)
            kept[new] = moments
        self.restart_optimizer(kept)


def resized(old: Tensor, size: int, rows: list[int], values: Tensor) -> Tensor:
    """A copy of `old` with `size` rows, those of `rows` set to `values`."""
    new = old.new_zeros((size, *old.shape[1:]))
    new[: len(old)] = old
    new[rows] = values
    return new
