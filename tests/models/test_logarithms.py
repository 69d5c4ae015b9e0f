"""Logarithms of many numbers are those of the standard library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels import kernel
from models.logarithms import TINIEST, logarithms, new_logarithms


@kernel
def run(c: Any, n: int) -> None:
    logarithms(c, n)


def of(values: list[float]) -> list[float]:
    buffers = new_logarithms(len(values) + 1)
    buffers.value[:] = [*values, 7.0]
    run(buffers, len(values))
    assert buffers.value[-1] == 7.0
    return buffers.value[:-1].tolist()


@settings(deadline=None)
@given(st.lists(st.floats(float(TINIEST), float(np.finfo(np.float32).max), width=32), max_size=40))
def test_they_are_right_to_the_last_bit_or_two(values: list[float]) -> None:
    np.testing.assert_allclose(of(values), [math.log(value) for value in values], rtol=1.5e-7, atol=1e-7)


def test_of_one_and_of_powers_of_two_and_near_them() -> None:
    near = [
        float(np.nextafter(np.float32(2.0**e), np.float32(side))) for e in range(-9, 9) for side in (0, 1e9)
    ]
    values = [1.0, *(2.0**e for e in range(-100, 100)), *near, math.sqrt(0.5), math.sqrt(2.0)]
    assert of([1.0]) == [0.0]
    np.testing.assert_allclose(
        of(values), np.log(np.array(values, np.float32), dtype=np.float64), rtol=1.5e-7, atol=1e-7
    )
