"""How every neural model of the family learns: lessons over the events that it keeps, and weights to score with.

In: interactions. Out: trained weights, and scores from them. A *lesson* is one call of `fit` or `partial_fit`: the new
events and a sample of the kept ones, in shuffled batches, AdamW with a rate that warms up and comes to rest at 0, so
that what is served after a lesson needs no averaging, and no state of the optimiser is carried on. Everything random is
keyed by (seed, lesson, step). Never reads a clock; on one thread of one machine the same events give the same weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from models.base import F32, I32, I64, Bool
from models.config import Fraction, Section
from models.family.contract import COLUMNS, Arrays, Factored, Interactions, Model, Queries, chosen
from models.family.lesson_checkpoint import EVERY, LessonCheckpoint
from models.family.parts.tables import Table
from models.training.dropout import Noise

WARM = 0.1
"""Share of a lesson's steps in which the rate rises."""


class NeuralSettings(Section):
    """What all neural models can be told; each changes the defaults that it learns better with."""

    width: int = Field(64, ge=2, le=1024, description="of the vectors of users and items")
    epochs: int = Field(10, ge=1, description="times that fit goes through the events")
    least_steps: int = Field(3000, ge=0, description="steps of fit at least, however few events there are")
    batch: int = Field(512, ge=1, description="predictions in a step")
    lr: float = Field(3e-3, gt=0, description="highest rate of a lesson")
    weight_decay: float = Field(0.01, ge=0)
    dropout: Fraction = 0.2
    kept: int = Field(2_000_000, ge=1, description="newest events kept for later lessons")
    replay: float = Field(4.0, ge=0, description="kept events that partial_fit goes through for each new one")
    device: str = Field("auto", description="as torch names it; auto: CUDA where there is, else the CPU")

    @field_validator("device")
    @classmethod
    def _of_torch(cls, device: str) -> str:
        if device != "auto":
            try:
                torch.device(device)
            except RuntimeError:
                raise ValueError(
                    f"{device!r} is no device of torch; for example auto, cpu, cuda, cuda:1"
                ) from None
        return device


class Network(nn.Module):
    """Weights of a model, and the noise of its dropout layers."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = Noise()

    def grow(self, n_users: int, n_items: int) -> None:
        """Make room in every table."""
        for module in self.modules():
            if isinstance(module, Table):
                module.grow(n_users, n_items)


@dataclass(frozen=True, slots=True)
class Lesson:
    """The events of a lesson, user after user, each user's oldest first.

    Attributes:
        events: all that is kept, the new ones included.
        number: place of each event in the order of arrival, int64 [n].
        starts: where each user's run begins, and n at the end, int64 [users + 1].
        new_from: `number` of the first event that is learned for the first time; n in a `fit`, which replays all.
        predictions: how many events to learn to predict, repetitions counted.
        replay: share of them that is drawn from all events.
        seed, lesson: what randomness is keyed by.
    """

    events: Interactions
    number: I64
    starts: I64
    new_from: int
    predictions: int
    replay: float
    seed: int
    lesson: int

    def rng(self, *key: int) -> np.random.Generator:
        """A generator for one purpose or step of the lesson."""
        return np.random.Generator(np.random.SFC64([self.seed, self.lesson, *key]))

    def step_key(self, step: int) -> int:
        """The number of a step that no step of another lesson has."""
        return (self.lesson << 32) + step

    def examples(self, batch: int) -> list[I64]:
        """Rows of events to predict, in shuffled batches: the new ones as a fit, and a sample of all of them."""
        rng = self.rng(0)
        new = np.flatnonzero(self.number >= self.new_from)
        fresh = round(self.predictions * (1.0 - self.replay)) if len(new) else 0
        parts: list[I64] = []
        for pool, wanted in ((new, fresh), (np.arange(len(self.events)), self.predictions - fresh)):
            left = wanted if len(pool) else 0
            while left > 0:
                parts.append(rng.permutation(pool)[:left])
                left -= len(parts[-1])
        if not parts:
            return []
        # The passes of a fit follow each other; the new and the old events of a partial_fit are mixed.
        rows = np.concatenate(parts) if self.replay == 1.0 else rng.permutation(np.concatenate(parts))
        return np.array_split(rows, -(-len(rows) // batch))


Step = Callable[[], Tensor]
"""The mean loss of one step of a lesson, by the weights as they are."""


class NeuralModel(Model):
    """A network that learns by lessons.

    Attributes:
        network: the weights; row c + 1 of a table of items is item c, row 0 is "nothing".
        kept: the newest events, oldest first.
        lessons: learned so far.
    """

    settings: NeuralSettings
    network: Network
    kept: Interactions
    lessons: int

    @abstractmethod
    def build(self) -> Network:
        """A network that knows nobody and nothing yet."""

    @abstractmethod
    def steps(self, lesson: Lesson) -> list[Step]:
        """The steps of the lesson, in order."""

    @abstractmethod
    def rank(self, queries: Queries) -> Tensor:
        """Scores of all items [n, n_items], by weights that don't change."""

    def settle(self) -> None:
        """Make what scoring needs and the weights determine; called whenever they have changed."""

    def scored_at_once(self) -> int:
        """Queries whose scores fit into memory together."""
        return 512

    def fit(self, events: Interactions) -> None:
        self.n_users, self.n_items = 0, 0 if self.content is None else len(self.content)
        self.kept = _NOTHING
        self.lessons = 0
        self._begin()
        predictions = max(
            self.settings.epochs * len(events),
            self.settings.least_steps * self.settings.batch * bool(len(events)),
        )
        self._learn(events, predictions, replay=1.0)

    def partial_fit(self, events: Interactions) -> None:
        if len(events):
            repeats = self.settings.replay
            self._learn(events, round(len(events) * (1.0 + repeats)), replay=repeats / (1.0 + repeats))

    def score(self, queries: Queries, items: I32 | None = None) -> F32:
        scores = np.empty((len(queries), self.n_items), np.float32)
        at_once = self.scored_at_once()
        with torch.inference_mode():
            for start in range(0, len(queries), at_once):
                rows = slice(start, start + at_once)
                scores[rows] = self.rank(queries.take(rows)).cpu().numpy()
        return chosen(scores, items)

    def arrays(self) -> Arrays:
        weights = {
            f"weights.{name}": tensor.cpu().numpy() for name, tensor in self.network.state_dict().items()
        }
        kept = {f"kept.{name}": getattr(self.kept, name) for name in COLUMNS}
        return weights | kept | {"lessons": np.array([self.lessons], np.int64)}

    def restore(self, arrays: Arrays) -> None:
        self.kept = Interactions(*(arrays[f"kept.{name}"] for name in COLUMNS))
        self.lessons = int(arrays["lessons"][0])
        self._begin()
        self.network.grow(self.n_users, self.n_items)
        for name, tensor in self.network.state_dict().items():
            stored = arrays[f"weights.{name}"]
            if stored.shape != tuple(tensor.shape):
                raise ValueError(f"{name} has shape {stored.shape}, not {tuple(tensor.shape)}")
            tensor.copy_(torch.from_numpy(stored))
        self._rest()

    def know(self, n_items: int) -> None:
        super().know(n_items)
        self.network.grow(self.n_users, self.n_items)
        self._rest()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        wanted = self.settings.device
        return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)

    def tensor(self, array: I64 | F32 | Bool) -> Tensor:
        """The array where the weights are."""
        return torch.from_numpy(array).to(self.device)

    def _begin(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = self.build().to(self.device)

    def _learn(self, events: Interactions, predictions: int, replay: float) -> None:
        """One lesson."""
        self.n_users = max(self.n_users, int(events.user.max(initial=-1)) + 1)
        self.n_items = max(self.n_items, int(events.item.max(initial=-1)) + 1)
        self.network.grow(self.n_users, self.n_items)
        self.kept = _newest(self.kept, events, self.settings.kept)
        n = len(self.kept)
        order = np.argsort(self.kept.user, kind="stable")
        user = self.kept.user[order]
        starts = np.concatenate((np.flatnonzero(np.diff(user, prepend=-1)), [n]))
        new_from = n if replay == 1.0 else max(n - len(events), 0)
        lesson = Lesson(
            self.kept.take(order), order, starts, new_from, predictions, replay, self.seed, self.lessons
        )
        settings = self.settings
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
        )
        steps = self.steps(lesson)
        kept = self._checkpoint(lesson)
        self.resumed_from = 0 if kept is None else kept.resume(self.network, optimizer)
        self.network.train()
        for number, step in enumerate(steps[self.resumed_from :], self.resumed_from):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * rate(number, len(steps))
            self.network.noise.key(self.seed, lesson.step_key(number))
            loss = step()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if kept is not None and ((number + 1) % EVERY == 0 or number + 1 == len(steps)):
                kept.save(number + 1, self.network, optimizer)
        self.lessons += 1
        self._rest()

    def _checkpoint(self, lesson: Lesson) -> LessonCheckpoint | None:
        if self.checkpoints is None:
            return None
        settings = self.settings.model_dump(mode="json", exclude={"device"})
        facts = (self.name, settings, self.seed, lesson.lesson, lesson.predictions, lesson.new_from)
        events = [getattr(lesson.events, name).tobytes() for name in COLUMNS]
        weights = [tensor.cpu().numpy().tobytes() for tensor in self.network.state_dict().values()]
        known = [] if self.content is None else [repr(self.content.tokens).encode()]
        if self.content is not None and self.content.vectors is not None:
            known.append(np.ascontiguousarray(self.content.vectors).tobytes())
        parts = [repr(facts).encode(), *events, *weights, *known]
        return LessonCheckpoint(self.checkpoints, f"{self.name}-{self.seed}", parts)

    def _rest(self) -> None:
        self.network.eval()
        with torch.inference_mode():
            self.settle()


class ProductModel(NeuralModel, Factored):
    """A network whose scores are products of a vector a query and a vector an item."""

    @abstractmethod
    def item_side(self) -> tuple[Tensor, Tensor]:
        """Vectors [n_items, d] and biases [n_items], by weights that don't change."""

    @abstractmethod
    def query_side(self, queries: Queries) -> Tensor:
        """Vectors [n, d], by weights that don't change."""

    def rank(self, queries: Queries) -> Tensor:
        vectors, bias = self.item_side()
        return torch.addmm(bias, self.query_side(queries), vectors.t())

    def factors(self) -> tuple[F32, F32]:
        vectors, bias = self.item_side()
        return vectors.detach().cpu().numpy(), bias.detach().cpu().numpy()

    def embed(self, queries: Queries) -> F32:
        at_once = self.scored_at_once()
        with torch.inference_mode():
            parts = [
                self.query_side(queries.take(slice(start, start + at_once))).cpu().numpy()
                for start in range(0, max(len(queries), 1), at_once)
            ]
        return np.concatenate(parts)


def rate(step: int, steps: int) -> float:
    """Share of the highest rate in this step: rises over the first tenth, then falls evenly to almost 0.

    >>> [round(rate(step, 20), 2) for step in (0, 1, 2, 10, 19)]
    [0.5, 1.0, 1.0, 0.56, 0.06]
    """
    warm = max(1, int(steps * WARM))
    return min((step + 1) / warm, (steps - step) / max(steps - warm, 1))


_NOTHING = Interactions(
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64)
)


def _newest(kept: Interactions, events: Interactions, capacity: int) -> Interactions:
    """The last `capacity` of both together."""
    columns = (np.concatenate((getattr(kept, name), getattr(events, name))) for name in COLUMNS)
    return Interactions(*(column[-capacity:] for column in columns))
