"""How kernels compile, and that new sources never run old code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numba
import numpy as np
import platformdirs
import pytest

from models import kernels
from models.kernels import inner, kernel


@inner
def _twice(x: Any) -> Any:
    return 2.0 * x


@kernel
def _four_times(x: Any) -> Any:
    return _twice(_twice(x))


@kernel
def _inverse(x: Any) -> Any:
    return 1.0 / x


@kernel
def _makes_one(n: Any) -> Any:
    return len(np.zeros(n))


@kernel(allocates=True)
def _makes_one_and_says_so(n: Any) -> Any:
    return np.zeros(n)


@inner
def _row(rows: Any) -> Any:
    return rows[0]


@kernel
def _hands_on_a_row(rows: Any) -> Any:
    return len(_row(rows))


@inner(here=True)
def _first(row: Any) -> Any:
    return row[0]


@kernel
def _firsts(rows: Any) -> Any:
    total = 0.0
    for row in range(len(rows)):
        total += _first(rows[row])
    return total


def test_a_kernel_can_be_called_and_calls_inner_functions() -> None:
    assert _four_times(1.5) == 6.0


@pytest.mark.parametrize("function", [_twice, _four_times])
def test_what_is_compiled_releases_the_interpreter_and_sums_in_the_order_written(function: Any) -> None:
    assert function.targetoptions["nogil"]
    assert not function.targetoptions.get("fastmath")


def test_who_makes_arrays_must_say_so() -> None:
    with pytest.raises(numba.NumbaError):
        _makes_one(3)
    assert _makes_one_and_says_so(3).tolist() == [0.0, 0.0, 0.0]


def test_who_returns_a_row_must_say_so_too() -> None:
    """Without counted references nobody would hold it."""
    with pytest.raises(numba.NumbaError):
        _hands_on_a_row(np.zeros((2, 3)))


def test_a_function_that_is_compiled_where_it_is_called_takes_rows() -> None:
    assert _firsts(np.arange(6.0).reshape(3, 2)) == 6.0


def test_a_division_by_zero_is_numpy_s() -> None:
    assert _inverse(0.0) == np.inf


def test_compiled_code_is_kept_in_the_user_s_cache() -> None:
    assert Path(platformdirs.user_cache_dir("headrace")) in kernels.CACHE.parents
    assert str(kernels.CACHE) == numba.config.CACHE_DIR


class TestCacheName:
    @pytest.fixture
    def copied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A copy of the sources, whose hash is taken."""
        copied = tmp_path / "models"
        shutil.copytree(Path(kernels.__file__).parent, copied, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(kernels, "__file__", str(copied / "kernels.py"))
        return copied

    def test_is_a_function_of_the_sources(self, copied: Path) -> None:
        assert copied.is_dir()
        assert kernels._sources_hash() == kernels.CACHE.name

    @pytest.mark.parametrize("name", ["covisit.py", "arena.py", "stream.py", *kernels.CONSTANTS])
    def test_changes_with_every_file_that_is_compiled_in(self, copied: Path, name: str) -> None:
        (changed,) = [path for path in copied.rglob(name) if "family" not in path.parts]
        changed.write_text(changed.read_text() + "\n# changed\n")
        assert kernels._sources_hash() != kernels.CACHE.name

    def test_does_not_change_with_other_files(self, copied: Path) -> None:
        (copied / "pipeline" / "recommender.py").write_text("# nothing\n")
        assert kernels._sources_hash() == kernels.CACHE.name
