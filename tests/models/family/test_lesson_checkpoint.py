"""A lesson that was cut off goes on where it was, and no other lesson is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.family.neural.bpr_mf import BPRMF, BPRSettings
from models.family.parts import training
from models.family.registry import make
from tests.models.family.planted import checkerboard

SMALL = BPRSettings(width=4, epochs=1, least_steps=2, batch=64, kept=100)


class StoppedError(Exception):
    """Stands for a kill."""


class TestCheckpoints:
    @pytest.mark.parametrize("name", ["unified", "matrix-factorisation", "gru4rec"])
    def test_a_lesson_that_was_cut_off_ends_as_one_that_was_not(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training, "EVERY", 7)
        settings = {"width": 8, "epochs": 1, "least_steps": 30, "batch": 32}
        whole = make(name, settings)
        whole.fit(checkerboard())
        cut = make(name, settings)
        cut.checkpoints = tmp_path
        monkeypatch.setattr(training, "rate", stop_at(17))
        with pytest.raises(StoppedError):
            cut.fit(checkerboard())
        monkeypatch.undo()
        again = make(name, settings)
        again.checkpoints = tmp_path
        again.fit(checkerboard())
        assert again.resumed_from == 14
        for key, array in whole.arrays().items():
            np.testing.assert_array_equal(again.arrays()[key], array)

    def test_another_lesson_is_not_taken_up(self, tmp_path: Path) -> None:
        for change in ({}, {"lr": 0.1}):
            model = BPRMF(SMALL.model_copy(update=change))
            model.checkpoints = tmp_path
            model.fit(checkerboard())
            assert model.resumed_from == 0
        model.seed = 1
        model.fit(checkerboard())
        assert model.resumed_from == 0
        model.fit(checkerboard().take(slice(0, 99)))
        assert model.resumed_from == 0
        assert len(list(tmp_path.iterdir())) == 4

    def test_a_damaged_checkpoint_is_no_checkpoint(self, tmp_path: Path) -> None:
        for _ in range(2):
            model = BPRMF(SMALL)
            model.checkpoints = tmp_path
            model.fit(checkerboard())
            (path,) = tmp_path.iterdir()
            path.write_bytes(path.read_bytes()[:-100])
            assert model.resumed_from == 0


def stop_at(last: int) -> Callable[[int, int], float]:
    real = training.rate

    def rate(step: int, steps: int) -> float:
        if step == last:
            raise StoppedError
        return real(step, steps)

    return rate
