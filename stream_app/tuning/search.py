"""The search for better settings: trial by trial, seeded, pruned, bounded, and gone on with where it was stopped.

In: an objective, what is searched, bounds, a clock. Out: a study in a file, and of it the trials so far. The first
trial is the settings as they are. Values are proposed by the tree-structured Parzen estimator (Bergstra et al. 2011) of
Optuna (Akiba et al. 2019); a trial that is behind the median of the others at the same event is given up (Golovin et
al. 2017). The sampler is seeded anew for each trial, by how many there were, so a search that was stopped at any
moment proposes what it would have proposed without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from stream_app.errors import HeadraceError, UsageError
from stream_app.settings import Settings
from stream_app.store.state_folder import FolderLock, StateError
from stream_app.tuning.objective import OnStep, Score, Step
from stream_app.tuning.space import Dimension, Value, Values, applied, present

STUDY_FILE = "study.journal"
NAME = "headrace"
RANDOM_TRIALS = 8
"""Trials before the estimator has enough to go by."""

UNPRUNED_TRIALS = 4
"""Trials that run to their end whatever they reach, so that there is a median."""

UNPRUNED_SHARE = 0.2
"""Of the stream, in which no trial is given up."""

START, TASK, FIGURES, VALUES = "start", "task", "figures", "values"


class TuningError(HeadraceError):
    """The search can't be made, or can't be gone on with; the message says why."""


class _PrunedError(Exception):
    """The trial in hand is not worth its time."""


class _TimeOverError(Exception):
    """The time that the search was given is over."""


class Objective(Protocol):
    """What a trial is judged by; more is better."""

    @property
    def events(self) -> int: ...

    def __call__(self, settings: Settings, on_step: OnStep) -> Score: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial that came to its end, or was pruned: its figures are then those of its first `events`.

    Attributes:
        number: from 0, in the order of their beginnings.
        start: whether it is the settings as they are.
        seconds: of the whole run; None where it was pruned.
    """

    number: int
    start: bool
    pruned: bool
    values: Values
    ndcg: float
    hr: float
    events: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Search:
    """The trials of a study so far.

    Attributes:
        start: of the settings as they are; None before it came to its end.
        best: the one with the highest NDCG of those that came to their end, the first of equal ones.
    """

    trials: list[Trial]

    @property
    def start(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.start), None)

    @property
    def best(self) -> Trial | None:
        done = [trial for trial in self.trials if not trial.pruned]
        return max(done, key=lambda trial: trial.ndcg, default=None)

    @property
    def better(self) -> bool:
        """Whether anything beats the settings as they are."""
        return self.start is not None and self.best is not None and self.best.ndcg > self.start.ndcg


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Holds the folder of a search, so that no other process takes its trials for left over.

    Raises:
        TuningError: another process holds it.
    """
    try:
        lock = FolderLock(out)
    except StateError:
        raise TuningError(
            f"{out} is in use by another search", "Wait for its end, or give this one an --out of its own."
        ) from None
    try:
        yield
    finally:
        lock.release()


OnTrialStep = Callable[[Step, Search], None]
"""Called after each block of a trial: how far it is, and the trials before it."""


class Study:
    """A search on its way, in the folder `out`.

    Args:
        settings: those to start from.
        task: what the trials of this search have in common, by name; one that was begun for another task is refused.
        seed: of the proposals.

    Raises:
        TuningError: the folder has a study of another task.
    """

    def __init__(
        self, out: Path, settings: Settings, searched: Sequence[Dimension], task: dict[str, str], seed: int
    ) -> None:
        if not searched:
            raise UsageError(
                "nothing is left to search: every setting that it is about was given",
                "Leave some of --set and the HEADRACE_* variables out.",
            )
        self.settings, self.searched, self.seed = settings, list(searched), seed
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(out / STUDY_FILE))),
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
        )
        self._check(out, {**task, "seed": str(seed), "searched": repr(self.searched)})
        for left in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(left.number, state=TrialState.FAIL)

    def run(
        self,
        objective: Objective,
        *,
        trials: int,
        deadline: float,
        clock: Callable[[], float],
        on_step: OnTrialStep | None = None,
        on_trial: Callable[[Search], object] | None = None,
    ) -> Search:
        """Try until there are `trials` in all, those of earlier runs counted, or the clock is at `deadline`.

        The trial in hand is then given up without a trace: it is done again when the search is gone on with.
        """
        self._study.pruner = optuna.pruners.MedianPruner(
            n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=int(UNPRUNED_SHARE * objective.events)
        )
        so_far = self.trials()
        while len(so_far.trials) < trials and clock() < deadline:
            trial = self._ask(so_far)

            def step(at: Step, trial: optuna.Trial = trial, before: Search = so_far) -> None:
                if on_step is not None:
                    on_step(at, before)
                trial.report(at.gain, at.done)
                if at.done == at.total:
                    return
                if trial.should_prune():
                    trial.set_user_attr(FIGURES, {"ndcg": at.ndcg, "hr": at.hr, "events": at.done})
                    raise _PrunedError
                if clock() >= deadline:
                    raise _TimeOverError

            if not self._try(objective, trial, step):
                break
            so_far = self.trials()
            if on_trial is not None:
                on_trial(so_far)
        return so_far

    def trials(self) -> Search:
        """Those that came to their end or were pruned, in order."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        ended = self._study.get_trials(deepcopy=False, states=states)
        return Search([_trial(number, one) for number, one in enumerate(ended)])

    def best_settings(self) -> Settings:
        """With the values of the best trial in place.

        Raises:
            TuningError: none came to its end.
        """
        best = self.trials().best
        if best is None:
            raise TuningError(
                "no trial came to its end in that time", "Give it more --minutes, or a --limit."
            )
        return applied(self.settings, self.searched, best.values)

    def _ask(self, so_far: Search) -> optuna.Trial:
        draw = np.random.SeedSequence([self.seed, len(so_far.trials)]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(draw[0]), n_startup_trials=RANDOM_TRIALS)
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if so_far.start is None and not waiting:
            self._study.enqueue_trial(present(self.settings, self.searched), user_attrs={START: True})
        return self._study.ask()

    def _try(self, objective: Objective, trial: optuna.Trial, step: OnStep) -> bool:
        """One trial; False where the time was over before its end."""
        values = {dimension.name: dimension.suggest(trial) for dimension in self.searched}
        if trial.user_attrs.get(START):
            values = present(self.settings, self.searched)  # as they are, however many digits they have
        trial.set_user_attr(VALUES, values)
        try:
            score = objective(applied(self.settings, self.searched, values), step)
        except _PrunedError:
            self._study.tell(trial, state=TrialState.PRUNED)
        except _TimeOverError:
            self._study.tell(trial, state=TrialState.FAIL)
            return False
        except BaseException:
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        else:
            figures: dict[str, Value] = {"ndcg": score.ndcg, "hr": score.hr, "events": objective.events}
            trial.set_user_attr(FIGURES, figures | {"seconds": score.seconds})
            self._study.tell(trial, score.ndcg)
        return True

    def _check(self, out: Path, task: dict[str, str]) -> None:
        known = self._study.user_attrs.get(TASK)
        if known is None:
            self._study.set_user_attr(TASK, task)
            return
        differing = sorted(name for name in known.keys() | task.keys() if known.get(name) != task.get(name))
        if differing:
            raise TuningError(
                f"{out / STUDY_FILE} is a search of another kind: {', '.join(differing)} differ",
                "Give this one an --out of its own, or ask for the same again.",
            )


def _trial(number: int, frozen: FrozenTrial) -> Trial:
    figures = frozen.user_attrs[FIGURES]
    return Trial(
        number=number,
        start=bool(frozen.user_attrs.get(START)),
        pruned=frozen.state == TrialState.PRUNED,
        values=frozen.user_attrs[VALUES],
        ndcg=figures["ndcg"],
        hr=figures["hr"],
        events=int(figures["events"]),
        seconds=figures.get("seconds"),
    )
