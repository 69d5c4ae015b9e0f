"""The pure pipeline: learn → retrieve → re-rank → policy, over batches of interned events.

In: event batches, rows of the state when it starts, a re-ranker when there is one. Out: statuses and lists, and what a
commit must write as keys and bytes. It reads no clock, opens nothing, and knows no broker.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.base import DUPLICATE, F32, I32, I64, Bool, EventBatch, Lists, Outcome
from models.config import ModelSettings
from models.online import asymmetric_mf, blend, covisit, covisit_rows, popularity
from models.pipeline import features, listing, stream
from models.pipeline.candidates import Reranked, Scratch, new_scratch
from models.pipeline.fixed import Fixed, fixed_of
from models.pipeline.ranking_apart import RankingApart
from models.pipeline.rerankers import NONE, Rerankers
from models.pipeline.reranking import Reranker
from models.pipeline.single_sources import SingleSources
from models.state import growth, totals
from models.state.catalogue import Catalogue
from models.state.learned import State
from models.state.persistence import Delta, Persistence
from models.state.sequences import HISTORY, MAX_BATCH, Histories, new_histories
from models.state.users import UserTable
from models.vocabulary import MAX_SCENARIOS, Actions

EXPLORATION = "exploration"
"""The source of an item that was drawn for the quota of new ones (`models.pipeline.exploration`)."""
SAMPLE = 20
"""One user in this many is in the sample for which the frozen first model makes lists."""


@dataclass(frozen=True, slots=True)
class View:
    """What lists are made from, for whoever explains them: to be read, but for the scratch."""

    state: State
    fixed: Fixed
    scratch: Scratch
    reranked: Reranked
    slot_of: I32


class Recommender:
    """Everything learned, and the lists that follow from it.

    Args:
        settings: of all models.
        weights: teaching weight of each event type, and `default_weight` of all others.
        scale: lowest and highest rating: what is predicted beyond them is judged as if it were they.
        seed: of every draw.
        baselines: also make each single source's own lists (backtests: they cost more than half as much as the lists).
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        weights: dict[str, float] | None = None,
        default_weight: float = 1.0,
        scale: tuple[float, float] = (1.0, 5.0),
        seed: int = 0,
        baselines: bool = False,
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.catalogue = Catalogue(settings.max_items, announce=settings.policy.exploration > 0)
        self.users = UserTable(settings)
        self.actions = Actions(weights or {}, default_weight)
        self._fixed = fixed_of(settings, scale, seed)
        self.sources = features.sources(settings)
        """What speaks for an item."""
        self.features = features.names(settings)
        """Names of the blend's features."""
        self.credits = (*self.sources, EXPLORATION)
        """Names of what `Lists.source` says."""
        slots = len(self.catalogue.columns.number)
        self.rerankers = Rerankers(self.catalogue)
        self._persistence = Persistence(self.users, self.catalogue, self.actions)
        lives = settings.popularity.half_lives
        self._state = State(
            items=self.catalogue.columns,
            announced=self.catalogue.announced.columns(),
            popularity=popularity.create(lives, slots),
            here=popularity.create((lives[self._fixed.baseline],) * MAX_SCENARIOS, slots),
            covisit=covisit_rows.create(slots),
            amf=asymmetric_mf.create(slots, settings.asymmetric_mf.factors),
            mf_bias=np.zeros(slots, np.float32),
            mf=np.zeros((slots, settings.biased_mf.factors), np.float32),
            mf_mean=np.zeros(2),
            blend=blend.create(
                features.start_weights(settings), settings.blend.accumulator, settings.blend.hidden, seed
            ),
            totals=np.zeros(len(totals.NAMES)),
            journal=self._persistence.journal.words,
        )
        self._scratch = self._new_scratch(slots)
        self._ranking = RankingApart(self._fixed, settings.asymmetric_mf.factors)
        self._room = covisit.needs(settings.covisit)
        self._histories = new_histories(0)
        self._alone = SingleSources(self.users, self.sources if baselines else (), settings.policy.k)

    # -- the re-ranker -----------------------------------------------------------------------------------------
    @property
    def reranker(self) -> Reranker | None:
        """The re-ranker in use."""
        return None if self.rerankers.live is None else self.rerankers.live.reranker

    def set_reranker(self, reranker: Reranker | None, first: Reranker | None = None) -> None:
        """Score with this snapshot from the next batch on (`models.pipeline.rerankers.Rerankers.use`)."""
        self._fit()
        self.rerankers.use(reranker, first)
        self._persistence.shared_changed = True

    # -- events ------------------------------------------------------------------------------------------------
    def process(
        self, batch: EventBatch, list_at: Bool, *, rerank: bool = True, because: bool = True
    ) -> Outcome:
        """Learn the events, in order, and make a list after each accepted one where `list_at`.

        Args:
            batch: at most `MAX_BATCH` events; users are in memory, items interned.
            list_at: bool [n].
            rerank: False leaves the Transformer out (load shedding).
            because: fill scores, sources and reasons too; without, `Lists.items` alone.

        Raises:
            ValueError: too many events.
        """
        n = len(batch)
        if n > MAX_BATCH:
            raise ValueError(f"{n} events in a batch; at most {MAX_BATCH} are taken")
        self._fit()
        self._alone.own(batch.user)
        self._persistence.shared_changed = True
        if len(self._histories.status) < n:
            self._histories = new_histories(n)
        buffers: tuple[Any, ...] = self._histories
        h = Histories(*(column[:n] for column in buffers))
        live = self.rerankers.live if rerank else None
        plan = None if live is None else live.plan(self.users, batch, self.actions)
        sample = self._in_sample(batch.user)
        frozen = self.rerankers.frozen if rerank and sample.any() else None
        frozen_plan = None if frozen is None else frozen.plan(self.users, batch, self.actions, wanted=sample)
        self.users.advance(batch, list_at, self.actions.weights, self.actions.scenarios, h)
        accepted = h.status != DUPLICATE
        nothing = np.zeros((n, 1), np.float32)
        before, after = (nothing, nothing) if plan is None else plan.finish(accepted)
        frozen_after = nothing if frozen_plan is None else frozen_plan.finish(accepted)[1]
        columns = stream.Columns(
            batch.user, batch.item, batch.weight, batch.value, batch.key, batch.offset, list_at, sample,
            before, after, frozen_after, self.actions.scenarios[batch.action], h,
        )  # fmt: skip
        out = listing.new_output(int(np.count_nonzero(list_at & accepted)), self.settings.policy.k)
        # Where nothing reads the ranking factors during the batch, they are learned beside everything else.
        apart = self._fixed.blend.lr == 0.0 and not list_at.any()
        at = 0
        with self._ranking.beside(self._state, columns, self.catalogue.slot_of) if apart else nullcontext():
            while at < n:
                at = stream.run(
                    self._state, self._fixed, self._scratch, self.users.columns, self.users.seen,
                    self.catalogue.slot_of, self._room, columns, at,
                    NONE if live is None else live.side,
                    NONE if frozen is None else frozen.side,
                    self._alone.columns, because, apart, out,
                )  # fmt: skip
                if at < n:
                    self._state = self._state._replace(
                        covisit=covisit_rows.with_room(self._state.covisit, 2 * self._room)
                    )
        return Outcome(h.status.copy(), self._lists(out, batch.user))

    def refresh(self, slots: I32, *, counted: bool = True) -> Lists:
        """Make lists without an event.

        Args:
            counted: each is a revision of its own, as after a model swap; else it stands for events that are
                counted already.
        """
        self._fit()
        self._alone.own(slots)
        n = len(slots)
        out = listing.new_output(n, self.settings.policy.k)
        live, sample = self.rerankers.live, self._in_sample(slots)
        frozen = self.rerankers.frozen if sample.any() else None
        nothing = np.zeros((n, 1), np.float32)
        vectors = nothing if live is None else live.current(self.users, slots, self.actions)
        frozen_vectors = nothing if frozen is None else frozen.current(self.users, slots, self.actions)
        stream.refresh(
            self._state, self._fixed, self._scratch, self.users.columns, self.users.seen,
            self.catalogue.slot_of, slots, self.actions.weights, self.actions.scenarios, vectors,
            frozen_vectors, sample, NONE if live is None else live.side, NONE if frozen is None else frozen.side,
            self._alone.columns,
            np.zeros(HISTORY, np.int32), out, counted,
        )  # fmt: skip
        self._persistence.shared_changed |= n > 0
        return self._lists(out, slots)

    # -- figures -----------------------------------------------------------------------------------------------
    def metrics(self) -> dict[str, float]:
        """The always-on evaluation, as it stands in the state (see `models.state.totals.figures`)."""
        return totals.figures(self._state.totals, self.settings.policy.k)

    def baseline_counts(self) -> dict[str, tuple[float, float]]:
        """Hits and sum of NDCG of each single source, over the events scored so far; needs `baselines`."""
        return self._alone.counts()

    def blend_weights(self) -> dict[str, float]:
        """The global weight of each feature."""
        return dict(zip(self.features, map(float, self._state.blend.weight[0]), strict=True))

    # -- explanation -------------------------------------------------------------------------------------------
    def view(self) -> View:
        """What the next list would be made from; it holds until the next batch."""
        self._fit()
        live = self.rerankers.live
        reranked = NONE if live is None else live.side
        return View(self._state, self._fixed, self._scratch, reranked, self.catalogue.slot_of)

    def vectors_of(self, users: UserTable, slots: I32) -> F32:
        """The re-ranker's vectors of users in any table [n, d]; zeros where there is no re-ranker."""
        live = self.rerankers.live
        return (
            np.zeros((len(slots), 1), np.float32)
            if live is None
            else live.current(users, slots, self.actions)
        )

    # -- state -------------------------------------------------------------------------------------------------
    @property
    def dirty_bytes(self) -> int:
        """About what a commit would write."""
        return self._persistence.dirty_bytes(self._state)

    @property
    def owes_rows(self) -> bool:
        """Whether changed co-visitation rows are not stored but as a journal (see `take_dirty`)."""
        return self._persistence.journal.stored

    def take_dirty(self, *, whole: bool = True) -> Delta:
        """What changed since `mark_clean` (`models.state.persistence`); nothing is marked here."""
        return self._persistence.take(self._state, self.rerankers.first, whole=whole)

    def mark_clean(self) -> None:
        """What the last `take_dirty` gave is as good as written: whoever took it writes it, or ends."""
        self._persistence.mark_clean(self._state)

    def load(self, items: Iterable[tuple[bytes, bytes]], meta: Iterable[tuple[bytes, bytes]]) -> None:
        """Take back what earlier commits wrote, into a recommender that has seen nothing yet.

        Raises:
            ValueError: bytes that these settings did not write.
        """
        rows = self._persistence.read(items, meta, self._state)
        self.rerankers.first = rows.first_model
        self._top_numbers = rows.tops
        self._fit()
        self._state = self._persistence.fill(self._state, rows, self._fixed.covisit, self._room)

    # -- room --------------------------------------------------------------------------------------------------
    def _fit(self) -> None:
        """Make room for the items admitted since the last batch, and draw their first vectors."""
        catalogue = self.catalogue
        self._state = self._state._replace(announced=catalogue.announced.columns())
        if catalogue.admitted or catalogue.columns is not self._state.items:
            self.rerankers.fit()
        if catalogue.columns is not self._state.items:
            slots = len(catalogue.columns.number)
            self._state = growth.fitted(self._state, catalogue.columns)
            self._scratch = self._new_scratch(slots)
        if self._scratch.mark[0] > 2_000_000_000:
            self._scratch = self._new_scratch(len(catalogue.columns.number))
        if catalogue.admitted:
            self._initialise(catalogue.admitted)
            catalogue.admitted.clear()
        if self._top_numbers is not None:
            slot_of = np.append(catalogue.slot_of, np.int32(-1))
            for table, numbers in zip(
                (self._state.popularity, self._state.here), self._top_numbers, strict=True
            ):
                table.top[: len(numbers)] = slot_of[numbers]
            self._top_numbers = None
        self._alone.fit()

    _top_numbers: tuple[I64, I64] | None = None

    def _initialise(self, slots: list[int]) -> None:
        s = self._state
        stream.admit(s, np.asarray(slots, np.int64), self._fixed.seed, self.settings.biased_mf.init_std)
        self.rerankers.admit(slots)

    def make_room(self) -> None:
        """Drop the items longest without an event, a sixteenth of all: for when the catalogue has no room for more."""
        self._persistence.journal.break_off()
        self.rerankers.fit()
        gone = self.catalogue.evict(self.settings.max_items - self.settings.max_items // 16)
        s = self._state
        s.totals[totals.ITEMS_WITH_EVENTS] -= np.count_nonzero(s.items.born[gone] >= 0)
        evicted = np.zeros(len(s.items.number), np.uint8)
        evicted[gone] = 1
        covisit_rows.forget(s.covisit, evicted)
        s.popularity.mass[gone] = 0.0
        s.here.mass[gone] = 0.0
        s.items.born[gone] = -1
        for table in (s.popularity, s.here):
            popularity.find_top(table, int(s.totals[totals.SLOTS_USED]))
        s.totals[totals.ITEMS_EVICTED] += len(gone)
        s.totals[totals.ITEMS_SHOWN] -= float(s.items.shown[gone].sum())

    # -- pieces ------------------------------------------------------------------------------------------------
    def _in_sample(self, slots: I32) -> Bool:
        if self.rerankers.first_is_lost:
            return np.zeros(len(slots), np.bool_)
        return self.users.hashes[slots] % np.uint64(SAMPLE) == self._fixed.seed % np.uint64(SAMPLE)

    def _new_scratch(self, slots: int) -> Scratch:
        return new_scratch(slots, self._fixed, len(self.features), self.settings.asymmetric_mf.factors)

    def _lists(self, out: listing.Output, users: I32) -> Lists:
        n = int(out.n[0])
        event = out.event[:n]
        return Lists(
            event, users[event] if n and event[0] >= 0 else users[:n], out.revision[:n],
            out.items[:n], out.scores[:n], out.source[:n], out.because[:n],
        )  # fmt: skip
