"""Training by several processes, each with a share of the users: the same steps as one process with all of them.

In: a process group, the event logs of the *shards* that are this process's. Out: the same weights in every process, and
the loss of each step. Never reads a broker, and never writes: whoever started the processes does, in one of them.

A shard is a part of the users (of a broker's partitions, or of a file). Everything that is drawn is keyed by (seed,
refresh or step, shard), never by the process, so S shards give the same curve in one process as in S, up to rounding:
one step takes a batch from each shard, which is one batch of S times the size, wherever its parts are computed.

1. Names: items and kinds of events of all shards, in the order of the shards, get the same rows everywhere.
2. Each step, all targets are gathered, so that every process compares the same items (`candidate_items`).
3. Each process makes the sum of its own losses; `DistributedDataParallel` averages the gradients over W processes
   (Li et al.: PyTorch Distributed, VLDB 2020), so a sum is multiplied by W / (number of all targets).
4. The optimiser takes the same step everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from models.base import I64
from models.sequence.encode import Events, concatenate
from models.sequence.transformer import CausalTransformer
from models.training.candidate_items import choose
from models.training.event_log import EventLog, Sequences
from models.training.softmax import softmax_loss
from models.training.train import CANDIDATES, CONTEXT, Trainer
from models.training.windows import Batch, Windows, batch_of, grouped, plan


class Group:
    """The processes that train together; one alone, where none is initialised."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        together = dist.is_available() and dist.is_initialized()
        self.size = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0

    def gather(self, mine: Any) -> list[Any]:
        """What every process gave, in the order of their ranks."""
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def gather_numbers(self, mine: I64) -> list[I64]:
        """Arrays of whole numbers of any lengths, in the order of their ranks."""
        if self.size == 1:
            return [mine]
        length = torch.tensor([len(mine)], device=self.device)
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length)
        most = max(int(n) for n in lengths)
        if not most:
            return [mine] * self.size
        padded = functional.pad(torch.from_numpy(mine).to(self.device), (0, most - len(mine)))
        found = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return [part[: int(n)].cpu().numpy() for part, n in zip(found, lengths, strict=True)]

    def sum(self, mine: float) -> float:
        """The sum of what every process gave."""
        if self.size == 1:
            return mine
        total = torch.tensor([mine], dtype=torch.float32, device=self.device)
        dist.all_reduce(total)
        return float(total)


class SummedLoss(nn.Module):
    """The sum of a process's losses in a step: what is wrapped, so that gradients are averaged as they are made."""

    def __init__(self, model: CausalTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, read: tuple[Tensor, Tensor, Tensor] | None, asked: tuple[Tensor, ...]) -> Tensor:
        """`read` is None where this process has no batch left: its gradient is zero, and it takes part."""
        if read is None:
            return torch.stack([p.sum() for p in self.model.parameters()]).sum() * 0
        sources, candidates, correction, targets, weights = asked
        loss = softmax_loss(
            self.model(*read)[sources],
            functional.embedding(candidates, self.model.item_vectors()),
            self.model.bias[candidates] + correction,
            targets,
            weights,
        )
        return loss * len(sources)


class DistributedTrainer(Trainer):
    """A `Trainer` for the shards of one process among others."""

    def train(self, logs: Mapping[int, EventLog], tokens: int, group: Group) -> list[float]:
        """About `tokens` tokens over all shards together, each by its share of the events; the loss of each step.

        Args:
            logs: this process's shards by number; no other process has these numbers.
        """
        torch.set_num_threads(self.threads)
        held = sorted(logs)
        said = [
            (shard, logs[shard].items_held(), list(logs[shard].actions), len(logs[shard])) for shard in held
        ]
        shards = sorted(part for parts in group.gather(said) for part in parts)
        assert len({shard for shard, *_ in shards}) == len(shards), "two processes hold the same shard"
        items = list(dict.fromkeys(name for _, names, _, _ in shards for name in names))
        actions = list(dict.fromkeys(name for _, _, names, _ in shards for name in names))
        rng = np.random.Generator(np.random.SFC64([self.seed, self.refreshes]))
        self._admit(items, actions, rng)
        total = max(1, sum(n for *_, n in shards))
        plans = {
            shard: self._plan(shard, logs[shard], round(tokens * len(logs[shard]) / total)) for shard in held
        }
        steps = max(group.gather(max((len(of) for *_, of in plans.values()), default=0)))
        lesson: nn.Module = SummedLoss(self.model)
        if group.size > 1:  # every process begins with the same weights: they are keyed by the seed
            with warnings.catch_warnings():  # of a newer way to say that buffers, all of them constant, stay
                warnings.simplefilter("ignore", FutureWarning)
                lesson = DistributedDataParallel(lesson, broadcast_buffers=False, init_sync=False)
        self.model.train()
        losses: list[float] = []
        for step in range(steps):
            parts = [
                (shard, events, batch)
                for shard, (events, sequences, of) in plans.items()
                if step < len(of) and (batch := batch_of(sequences, of[step])) is not None
            ]
            loss = self._together(lesson, parts, group)
            if loss is not None:
                losses.append(loss)
        self.refreshes += 1
        self.trained_to += sum(n for *_, n in shards)
        return losses

    def _plan(self, shard: int, log: EventLog, tokens: int) -> tuple[Events, Sequences, list[Windows]]:
        sequences = log.sequences()
        rng = np.random.Generator(np.random.SFC64([self.seed, self.refreshes, 3, shard]))
        windows = plan(sequences, log.end, tokens, self.replay_share, self.settings.window, CONTEXT, rng)
        return self._events(log, sequences), sequences, grouped(windows, self.settings.batch_tokens)

    def _together(
        self, lesson: nn.Module, parts: Sequence[tuple[int, Events, Batch]], group: Group
    ) -> float | None:
        """One step of all processes; the mean loss over all of their targets, None where there was none."""
        asked = [events.rows[batch.targets] > 0 for _, events, batch in parts]
        mine = [
            events.rows[batch.targets[known]].astype(np.int64)
            for (_, events, batch), known in zip(parts, asked, strict=True)
        ]
        targets = np.concatenate([np.zeros(0, np.int64), *mine])
        every = np.concatenate(group.gather_numbers(targets))
        if not len(every):
            return None
        to = self.device
        choice = choose(
            np.concatenate((targets, every)), self.model.n_items, CANDIDATES, self.seed, self.steps
        )
        read: tuple[Tensor, Tensor, Tensor] | None = None
        rest: tuple[Tensor, ...] = ()
        if len(targets):
            self.model.noise.key_parts(self.seed, self.steps, [(s, len(b.events)) for s, _, b in parts])
            events = parts[0][1].take(parts[0][2].events)
            for _, more, batch in parts[1:]:
                events = concatenate(events, more.take(batch.events))
            segments, sources, at = [], [], 0
            for (_, _, batch), known in zip(parts, asked, strict=True):
                segments.append(batch.segments + at)
                sources.append(batch.sources[known] + at)
                at += len(batch.events)  # more than there are segments: they only have to differ
            weights = np.concatenate(
                [b.weights[known] for (_, _, b), known in zip(parts, asked, strict=True)]
            )
            read = self._inputs(events, np.concatenate(segments))
            rest = (
                torch.from_numpy(np.concatenate(sources)).to(to),
                torch.from_numpy(choice.rows).to(to),
                torch.from_numpy(choice.correction).to(to),
                torch.from_numpy(choice.targets[: len(targets)]).to(to),
                torch.from_numpy(weights).to(to),
            )
        total: Tensor = lesson(read, rest)
        self._descend(total * (group.size / len(every)))
        return group.sum(float(total.detach())) / len(every)
