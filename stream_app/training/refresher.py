"""The refresh cycle of the Transformer: gather events, train up to a cut, judge on what came after it.

In: checked events, the clock as an argument, the version that is live. Out: snapshots on disk, verdicts, and
a folder from which all of it goes on after a kill. Never talks to a broker, reads a clock or moves a pointer.

One turn of the cycle, in an order that allows a kill anywhere:

1. `begin`: the history and its offsets are saved; the cut is its end. From here on events are collected for
   the gate, with the cheap candidates of each as they were just before it.
2. `train` (in any thread): train, save the checkpoint, write the snapshot.
3. `finish`: `refresher.json` names the candidate. A kill before this repeats the turn: some events are
   trained on twice, and an unannounced snapshot is left to expire.
4. `judge` (in any thread), when enough events were scored or it was waited long enough.
5. `settle`: the decision is a line in `decisions.jsonl`, and no candidate is pending. A kill before this
   judges again: the events after the cut are read back out of the history.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import msgspec
import numpy as np

from models.durable import write_durably
from models.family.parts.descriptions import Description
from models.training.event_log import EventLog
from models.training.train import Trainer
from stream_app.batch.careful import ERASE
from stream_app.settings import Settings
from stream_app.training import ranker
from stream_app.training.gate_window import GateWindow
from stream_app.training.history import FrozenLog, replay
from stream_app.training.judging import MIN_SCORED, Cut, Verdict, judge
from stream_app.training.shadow import Events, Shadow

MOST_INTERVALS = 5
"""A refresh after a long absence trains for at most so many intervals' worth of new events."""


class _Saved(msgspec.Struct, kw_only=True):
    cut_at: int = 0
    pending: Cut | None = None
    topic_ids: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Job:
    """What a training run needs, fixed at the cut."""

    version: str
    log: FrozenLog
    at: int
    offsets: dict[str, int]
    new_from: int
    new_events: int
    tokens: int


def interval(settings: Settings, events: int) -> int:
    """New events between two refreshes: half as many during the warm-up, when there is most to gain."""
    every = settings.trainer.every_events
    return max(1, every // 2) if events < settings.trainer.warmup_events else every


def budget(settings: Settings, new_events: int, events: int) -> int:
    """Tokens to train after `new_events`, of `events` seen in all."""
    t = settings.trainer
    per_event = t.warmup_tokens_per_event if events <= t.warmup_events else t.tokens_per_event
    return round(per_event * min(new_events, MOST_INTERVALS * t.every_events))


class Refresher:
    """The history, the trainer, the shadow recommender, and where in the cycle they are."""

    def __init__(
        self, settings: Settings, log: EventLog, trainer: ranker.AnyTrainer, saved: _Saved, now: float
    ) -> None:
        self.settings = settings
        self.log = log
        self.trainer = trainer
        self.shadow = Shadow(settings)
        self.window: GateWindow | None = None
        self.counts = {"events": 0, "duplicates": 0, "erased": 0}
        self._training = False
        self._cut_at = saved.cut_at
        self._pending = saved.pending
        self._topic_ids = saved.topic_ids
        self._began = self._waiting_since = now
        self._rebuild()

    @classmethod
    def open(cls, settings: Settings, device: str, now: float) -> Self:
        """Go on from `trainer.state_dir`, or begin there."""
        folder = settings.trainer.state_dir
        folder.mkdir(parents=True, exist_ok=True)
        capacity = settings.trainer.history_events
        log = EventLog.load(folder / "log", capacity) if (folder / "log").is_dir() else EventLog(capacity)
        trainer = ranker.make_trainer(settings, settings.seed, device)
        if (folder / "checkpoint").is_dir():
            trainer.load(folder / "checkpoint")
        saved = _Saved()
        if (folder / "refresher.json").is_file():
            saved = msgspec.json.decode((folder / "refresher.json").read_bytes(), type=_Saved)
        return cls(settings, log, trainer, saved, now)

    @property
    def uses_content(self) -> bool:
        """Whether the model learns from what the catalogue says of items."""
        return not isinstance(self.trainer, Trainer) and self.trainer.uses_content

    def describe(self, known: Mapping[str, Description]) -> None:
        """What the catalogue says now, for the next training; not while one is under way."""
        assert not self._training, "a refresh is under way"
        if not isinstance(self.trainer, Trainer):
            self.trainer.describe(known)

    @property
    def pending(self) -> Cut | None:
        """The candidate that waits for its verdict."""
        return self._pending

    @property
    def offsets(self) -> Mapping[str, int]:
        """Next offset of each topic-partition."""
        return self.log.offsets

    def meet_topics(self, ids: Mapping[str, str]) -> list[str]:
        """Forget the offsets of topics that were deleted and made anew since the last start; which these are."""
        renewed = [topic for topic, known in self._topic_ids.items() if ids.get(topic, known) != known]
        for name in [name for name in self.log.offsets if name.rpartition("-")[0] in renewed]:
            del self.log.offsets[name]
        self._topic_ids = {**self._topic_ids, **ids}
        self.save()
        self._save_state()
        return renewed

    def _rebuild(self) -> None:
        """Teach the shadow the history again, and open the gate's window where a candidate waits."""
        for events in replay(self.log, stop=self._pending.at if self._pending else None):
            self.shadow.feed(events)
        if self._pending is not None:
            self.window = GateWindow(self.settings.trainer.gate_events)
            for events in replay(self.log, start=self._pending.at):
                self.shadow.feed(events, self.window)

    def observe(self, events: Events, offsets: Mapping[str, int]) -> None:
        """Take in checked events; `offsets` are the next ones to read of the partitions that were read."""
        start = 0
        for row in [*(at for at, kind in enumerate(events.kind) if kind == ERASE), len(events)]:
            self._take(events.slice(start, row))
            if row < len(events):
                self.shadow.erase(events.user[row])
                self.log.erase(events.user[row])
                self.counts["erased"] += 1
            start = row + 1
        self._append(events.slice(0, 0), offsets)

    def _take(self, events: Events) -> None:
        if not len(events):
            return
        accepted = self.shadow.feed(events, self.window)
        self.counts["duplicates"] += int((~accepted).sum())
        kept = events if accepted.all() else events.take(np.flatnonzero(accepted))
        self._append(kept, {})
        self.counts["events"] += len(kept)

    def _append(self, events: Events, offsets: Mapping[str, int]) -> None:
        self.log.append(
            events.user, events.item, events.kind, events.value, events.weight, events.ts, offsets
        )

    def save(self) -> None:
        """Save the history with its offsets; does nothing where nothing came."""
        self.log.save(self.settings.trainer.state_dir / "log")

    def due(self, now: float) -> bool:
        """Whether a refresh should begin: enough new events, or some new events and enough time."""
        return not self._training and self._pending is None and self._next_is_due(now)

    def _next_is_due(self, now: float) -> bool:
        new = self.log.end - self._cut_at
        if new >= interval(self.settings, self.log.end):
            return True
        worth_it = budget(self.settings, new, self.log.end) >= self.settings.models.transformer.batch_tokens
        return worth_it and now - self._began >= self.settings.trainer.every_s

    def begin(self, version: str, now: float) -> Job:
        """Fix the cut, and collect for the gate from here on."""
        assert not self._training, "a refresh is under way"
        self.save()
        new = self.log.end - self._cut_at
        self._training, self._began = True, now
        self.window = GateWindow(self.settings.trainer.gate_events)
        return Job(
            version=version,
            log=FrozenLog.of(self.log, arrived=not isinstance(self.trainer, Trainer)),
            at=self.log.end,
            offsets=dict(self.log.offsets),
            new_from=self._cut_at,
            new_events=new,
            tokens=budget(self.settings, new, self.log.end),
        )

    def train(self, job: Job, created_ts: int, stop: Callable[[], bool]) -> Cut | None:
        """Train and write the snapshot; None where the history held nothing to learn from yet.

        Raises InterruptedTrainingError soon after `stop` says so; the trainer is of no use then.
        """
        # The trainer reads a log's sequences and names, and that is what a frozen one has.
        done = self.trainer.refresh(cast(EventLog, job.log), job.new_from, job.tokens, stop)
        if not done.steps:
            return None
        self.trainer.save(self.settings.trainer.state_dir / "checkpoint")
        sha256 = ranker.write(
            self.settings.trainer.snapshots / job.version, self.trainer, job.version, job.offsets
        )
        return Cut(
            version=job.version,
            at=job.at,
            offsets=job.offsets,
            created_ts=created_ts,
            new_events=job.new_events,
            tokens=done.tokens,
            steps=done.steps,
            loss=None if np.isnan(done.loss) else done.loss,
            sha256=sha256,
        )

    def finish(self, job: Job, cut: Cut | None, now: float) -> None:
        """The training of `job` is over."""
        self._training, self._pending, self._cut_at = False, cut, job.at
        self._waiting_since = now
        if cut is None:
            self.window = None
        self._save_state()

    def ready(self, now: float, live: str | None) -> bool:
        """Whether the pending candidate can be judged."""
        if self._pending is None or self.window is None:
            return False
        if live is None or self.window.full:
            return True
        waited = now - self._waiting_since >= self.settings.trainer.gate_wait_s
        return waited and (self.window.scored >= MIN_SCORED or self._next_is_due(now))

    def close_window(self) -> None:
        """Take no more events for the pending candidate: it is about to be judged."""
        assert self.window is not None, "no candidate is pending"
        self.window.close(self.shadow)

    def judge(self, live: str | None) -> Verdict:
        """Compare the pending candidate with the live snapshot; changes nothing. Close the window first."""
        assert self._pending is not None, "no candidate is pending"
        assert self.window is not None, "no candidate is pending"
        return judge(self.settings, self._pending, self.window, live)

    def settle(self, verdict: Verdict, *, live: bool, pinned: bool, at_ms: int) -> dict[str, Any]:
        """Write the decision down; the cycle may begin again. Returns the line that was written."""
        cut = self._pending
        assert cut is not None, "no candidate is pending"
        line = {**msgspec.to_builtins(cut), **msgspec.to_builtins(verdict)}
        line |= {"live": live, "pinned": pinned, "decided_ts": at_ms}
        path = self.settings.trainer.state_dir / "decisions.jsonl"
        with path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._pending = self.window = None
        self._save_state()
        return line

    def _save_state(self) -> None:
        write_durably(
            self.settings.trainer.state_dir / "refresher.json",
            msgspec.json.encode(
                _Saved(cut_at=self._cut_at, pending=self._pending, topic_ids=self._topic_ids)
            ),
        )
