"""The search with an objective whose best value is known, and a clock that is advanced by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stream_app.errors import UsageError
from stream_app.settings import Settings, load
from stream_app.tuning.objective import OnStep, Score, Step
from stream_app.tuning.search import Search, Study, TuningError, alone
from stream_app.tuning.space import Dimension

LR = Dimension("models.blend.lr", 0.02, 0.6, log=True)
DECAY = Dimension("models.covisit.decay", 0.6, 0.98, place=0)
BEST_LR = 0.05


@dataclass
class Hill:
    """Better the nearer `models.blend.lr` is to BEST_LR; each of its ten steps takes a second of `now`."""

    events: int = 1000
    now: float = 0.0
    stop_at: float = math.inf
    tried: list[float] = field(default_factory=list)

    def __call__(self, settings: Settings, on_step: OnStep) -> Score:
        self.tried.append(settings.models.blend.lr)
        height = math.exp(-abs(math.log(settings.models.blend.lr / BEST_LR)))
        for done in range(100, self.events + 1, 100):
            self.now += 1.0
            if self.now > self.stop_at:
                raise KeyboardInterrupt
            on_step(Step(done, self.events, height * done / self.events, height, height))
        return Score(height, height, self.events, 10.0)


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """`study(seed=0, …)`: begins a search, or goes on with the one that is there."""

    def made(out: Path = tmp_path, seed: int = 0, settings: Settings | None = None, **task: str) -> Study:
        out.mkdir(exist_ok=True)
        return Study(out, settings or load(), [LR, DECAY], task, seed)

    return made


def run(study: Study, hill: Hill, trials: int = 12, deadline: float = math.inf) -> Search:
    return study.run(hill, trials=trials, deadline=deadline, clock=lambda: hill.now)


def test_the_first_trial_is_the_settings_as_they_are(study: Callable[..., Study]) -> None:
    settings = load({"models.blend.lr": 0.123456, "models.covisit.decay": [0.7654321, 0.5]})
    search = run(study(settings=settings), Hill(), trials=1)
    assert search.start is search.trials[0] is search.best
    assert search.start.values == {"models.blend.lr": 0.123456, "models.covisit.decay.0": 0.7654321}
    assert not search.better


def test_better_settings_are_found_and_applied(study: Callable[..., Study]) -> None:
    searching = study()
    search = run(searching, Hill(), trials=25)
    assert search.better
    best = searching.best_settings()
    assert best.models.blend.lr == search.best.values["models.blend.lr"]  # type: ignore[union-attr]
    assert 0.03 < best.models.blend.lr < 0.08
    assert best.models.covisit.decay[1] == load().models.covisit.decay[1]


def test_a_trial_that_is_behind_is_given_up(study: Callable[..., Study]) -> None:
    hill = Hill()
    search = run(study(), hill, trials=20)
    pruned = [trial for trial in search.trials if trial.pruned]
    assert pruned
    assert all(200 <= trial.events < 1000 and trial.seconds is None for trial in pruned)
    assert search.best not in pruned
    assert hill.now < 20 * 10


def test_the_same_seed_tries_the_same(study: Callable[..., Study], tmp_path: Path) -> None:
    searches = [run(study(tmp_path / name), Hill()) for name in "ab"]
    assert searches[0].trials == searches[1].trials
    assert searches[0].trials[1:] != run(study(tmp_path / "c", seed=1), Hill()).trials[1:]


def test_a_search_goes_on_up_to_the_number_of_trials(study: Callable[..., Study], tmp_path: Path) -> None:
    whole = run(study(tmp_path / "whole"), Hill(), trials=12)
    first = run(study(), Hill(), trials=5)
    again = Hill()
    rest = run(study(), again, trials=12)
    assert rest.trials[:5] == first.trials
    assert len(again.tried) == 7
    assert rest.trials == whole.trials


def test_what_was_interrupted_is_tried_again(study: Callable[..., Study], tmp_path: Path) -> None:
    whole = run(study(tmp_path / "whole"), Hill(), trials=12)
    for stop_at in (3.0, 14.0, 12.0):
        with pytest.raises(KeyboardInterrupt):
            run(study(), Hill(stop_at=stop_at), trials=12)
    assert run(study(), Hill(), trials=12).trials == whole.trials


def test_a_process_that_was_killed_leaves_a_search_to_go_on_with(
    study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(study(tmp_path / "whole"), Hill(), trials=8)
    killed = study()
    run(killed, Hill(), trials=2)
    monkeypatch.setattr(killed._study, "tell", lambda *_, **__: None)  # its end does not come to the file
    with pytest.raises(KeyboardInterrupt):
        run(killed, Hill(stop_at=5.0), trials=8)
    assert run(study(), Hill(), trials=8).trials == whole.trials


def test_it_ends_when_the_time_is_over_in_the_middle_of_a_trial(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    whole = run(study(tmp_path / "whole"), Hill(), trials=12)
    hill = Hill()
    search = run(study(), hill, trials=12, deadline=34.5)
    assert hill.now == 35.0
    assert len(hill.tried) == 4
    assert search.trials == whole.trials[:3]
    assert run(study(), Hill(), trials=12).trials == whole.trials


def test_no_time_at_all_is_told(study: Callable[..., Study]) -> None:
    searching = study()
    assert run(searching, Hill(), deadline=0.0).trials == []
    with pytest.raises(TuningError, match="no trial came to its end"):
        searching.best_settings()


def test_a_folder_with_a_search_of_another_kind_is_refused(study: Callable[..., Study]) -> None:
    run(study(data="a", events="5"), Hill(), trials=1)
    with pytest.raises(TuningError, match="another kind: data differ"):
        study(data="b", events="5")


def test_two_searches_in_one_folder_are_refused(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(TuningError, match="in use by another search"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_nothing_to_search_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is left to search"):
        Study(tmp_path, load(), [], {}, 0)
