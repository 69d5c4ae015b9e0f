"""Trains a model of the family on the event log, in the place of the Transformer's trainer.

In: the event log, the number of the first event that is new since the last refresh. Out: a model to take a snapshot of.
The first refresh is a `fit` of all events held, each later one a `partial_fit` of what is new; only events that teach
positively are learned. A model that learns from content knows what the catalogue said at its last refresh. Never reads
a clock or decides when to train.

Codes are this trainer's own, given at first sight and not used again: the log gives those of forgotten ids to others.
So tables only grow; but once the model has learned `TURNOVER` times as many events as the log holds, the next refresh
is a `fit` again, with codes for those alone whose events are held. Model and snapshots stay within what `TURNOVER` full
histories hold, and what the log has dropped is forgotten in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.base import I32, Bool
from models.family.contract import Factored, Interactions, Model
from models.family.parts.descriptions import Description, content_of
from models.family.registry import make, with_defaults
from models.family.serving import snapshot
from models.sequence.snapshot import SnapshotError
from models.training.checkpoint import CheckpointError
from models.training.event_log import ERASED, Arrived, EventLog
from models.training.train import InterruptedTrainingError, Refresh
from models.vocabulary import codes_of

TURNOVER = 2
"""Histories' worth of events after which a model learns from the start."""


class FamilyTrainer:
    """One model of the family, and what its codes stand for.

    Attributes:
        actions: kinds of events, which say what was done and where (`models.vocabulary`).
        refreshes: done so far.
        trained_to: absolute number after the newest event that was in the log at the last refresh.
        learned_from: absolute number of the oldest event that the model may have learned.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        seed: int,
        device: str = "cpu",
        threads: int = 1,
        scale: tuple[float, float] = (1.0, 5.0),
    ) -> None:
        """`scale` is the lowest and the highest rating.

        Raises ValueError where there is no such model, pydantic.ValidationError where a setting is wrong.
        """
        around = {"device": device, "low": scale[0], "high": scale[1]}
        self.model = make(name, with_defaults(name, settings, around), seed=seed)
        self.device, self.threads = torch.device(device), threads
        self.item_ids: list[str] = []
        self.user_ids: list[str] = []
        self.actions: list[str] = []
        self.refreshes = self.trained_to = self.learned_from = 0
        self._items: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._known: Mapping[str, Description] = {}

    @property
    def uses_content(self) -> bool:
        """Whether it is of use to `describe` items."""
        return self.model.uses_content

    def describe(self, known: Mapping[str, Description]) -> None:
        """What the catalogue says now: the next refresh learns with it, snapshots know items without events by it."""
        self._known = known if self.uses_content else {}

    def refresh(
        self,
        log: EventLog,
        new_from: int,
        tokens: int,  # noqa: ARG002 (as the Transformer's trainer is called)
        stop: Callable[[], bool] | None = None,
    ) -> Refresh:
        """Learn the events from absolute number `new_from` on, or all that are held: the first time, and when most of
        what the model has learned is no longer among them.

        `tokens` is not looked at: a model of the family knows itself how long it learns. `stop` is asked once, at the
        beginning: InterruptedTrainingError is raised when it says so.
        """
        if stop is not None and stop():
            raise InterruptedTrainingError(f"training stopped before refresh {self.refreshes}")
        torch.set_num_threads(self.threads)
        arrived = log.arrived()
        erased = np.array([name == ERASED or name is None for name in arrived.users], np.bool_)
        some = (arrived.weight > 0) & ~erased[arrived.user]
        turned_over = log.end - self.learned_from > TURNOVER * len(arrived.user)
        begins = not self.refreshes or (turned_over and bool(some.any()))
        if begins:
            self.user_ids, self.item_ids, self._users, self._items = [], [], {}, {}
        _coded(arrived.item[some], arrived.items, self._items, self.item_ids)
        model, anew = self._described_model(anew=begins)
        if not anew:
            some[: max(new_from - arrived.first, 0)] = False
        events = self._interactions(arrived, some, log.actions)
        if len(events):
            (model.fit if anew else model.partial_fit)(events)
            self.model = model
            self.refreshes += 1
            if begins:  # content that appears makes a model learn anew too, but leaves old codes in use
                self.learned_from = arrived.first
        held = {name for name in arrived.users if name}
        self._forget([name for name in self._users if name not in held])
        self.trained_to = log.end
        return Refresh(1 if len(events) else 0, len(events), float("nan"))

    def save(self, folder: Path) -> None:
        """Write a checkpoint to `folder`, in place of the one there."""
        self._write(folder, "checkpoint", {}, self.model, self.item_ids)

    def write(self, folder: Path, version: str, cut: Mapping[str, int]) -> str:
        """Write a snapshot to `folder`; its manifest's SHA-256."""
        return self._write(folder, version, cut, *self._with_unmet())

    def _write(
        self, folder: Path, version: str, cut: Mapping[str, int], model: Model, item_ids: list[str]
    ) -> str:
        about = {
            "version": version,
            "item_ids": item_ids,
            "user_ids": self.user_ids,
            "actions": self.actions,
            "cut": dict(cut),
            "refreshes": self.refreshes,
            "trained_to": self.trained_to,
            "learned_from": self.learned_from,
        }
        return snapshot.write(folder, model, about)

    def load(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`; raises CheckpointError where it can't be used."""
        try:
            found = snapshot.read(folder)
        except SnapshotError as error:
            raise CheckpointError(f"{error}; delete {folder} to train from the start") from error
        ours, theirs = self.model, found.model
        if (ours.name, ours.settings, ours.seed) != (theirs.name, theirs.settings, theirs.seed):
            raise CheckpointError(
                f"{folder} holds a {theirs.name} of other settings, or of another seed, than the {ours.name} that is"
                " wanted; go back to the old settings, or delete the folder to train from the start"
            )
        manifest = found.manifest
        self.model, self.actions = theirs, list(manifest.actions)
        self.item_ids, self.user_ids = list(manifest.item_ids), list(manifest.user_ids)
        self.refreshes, self.trained_to = manifest.refreshes, manifest.trained_to
        self.learned_from = manifest.learned_from
        self._items = {name: code for code, name in enumerate(self.item_ids)}
        self._users = {name: code for code, name in enumerate(self.user_ids) if name}

    def _described_model(self, *, anew: bool) -> tuple[Model, bool]:
        """The model with what the catalogue says of items that had events; whether it has to learn from the start.

        `anew` says that it has to, whatever the catalogue says.
        """
        old = self.model
        if not self._known:
            return (self._plain() if anew else old), anew
        new = self._made(self.item_ids)
        if anew:
            return new, True
        new.n_users, new.n_items = old.n_users, old.n_items
        try:
            new.restore(old.arrays())
        except ValueError:  # there was no content before, or embeddings of another length
            return self._made(self.item_ids), True
        new.know(len(self.item_ids))
        return new, False

    def _plain(self) -> Model:
        return make(self.model.name, self.model.settings.model_dump(), seed=self.model.seed)

    def _made(self, item_ids: Sequence[str]) -> Model:
        content = content_of(item_ids, self._known)
        return make(self.model.name, self.model.settings.model_dump(), seed=self.model.seed, content=content)

    def _with_unmet(self) -> tuple[Model, list[str]]:
        """The model and the ids of its items, those included of which there is nothing but a description.

        They are scored, but nothing is learned from them: as negatives they would be pushed away from everybody. A
        model that scores all items at once is spared them.
        """
        unmet = [name for name in self._known if name not in self._items]
        if not unmet or not self.refreshes or not isinstance(self.model, Factored):
            return self.model, self.item_ids
        ids = self.item_ids + unmet
        model, old = self._made(ids), self.model
        model.n_users, model.n_items = old.n_users, old.n_items
        try:
            model.restore(old.arrays())
        except ValueError:  # the model has not learned with what is said now
            return old, self.item_ids
        model.know(len(ids))
        return model, ids

    def _interactions(self, arrived: Arrived, some: Bool, actions: Sequence[str]) -> Interactions:
        kinds = np.array([self._action(name) for name in actions], np.int32)
        return Interactions(
            _coded(arrived.user[some], arrived.users, self._users, self.user_ids),
            _coded(arrived.item[some], arrived.items, self._items, self.item_ids),
            arrived.value[some],
            arrived.ts[some],
            *(codes[kinds[arrived.action[some]]] for codes in codes_of(self.actions)),
        )

    def _action(self, name: str) -> int:
        if name not in self.actions:
            self.actions.append(name)
        return self.actions.index(name)

    def _forget(self, users: Sequence[str]) -> None:
        """Whose events are no longer held is nobody from here on."""
        for name in users:
            self.user_ids[self._users.pop(name)] = ""


def _coded(codes: I32, names: Sequence[str | None], known: dict[str, int], ids: list[str]) -> I32:
    """Own codes for a log's codes; new ones in the order of arrival."""
    own = np.full(len(names), -1, np.int32)
    distinct, first = np.unique(codes, return_index=True)
    for code in distinct[np.argsort(first)].tolist():
        name = names[code]
        assert name is not None, "an event of a code that is not in use"
        if name not in known:
            known[name] = len(ids)
            ids.append(name)
        own[code] = known[name]
    coded: I32 = own[codes]
    return coded
