"""Int8 rows: within half a step of what they stand for, and their products near those of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from models.compression.int8 import dequantise, products, quantise


def drawn(seed: int, n: int, d: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 40), st.floats(1e-6, 1e6))
def test_rounded_by_half_a_step_at_most(seed: int, n: int, d: int, size: float) -> None:
    matrix = drawn(seed, n, d) * size
    rows = quantise(matrix)
    assert rows.codes.dtype == torch.int8
    assert bool(((dequantise(rows) - matrix).abs() <= 0.501 * rows.scale[:, None]).all())


def test_rows_of_zeros_stay() -> None:
    assert not dequantise(quantise(torch.zeros(3, 5))).any()
    assert torch.equal(
        products(torch.zeros(2, 5), quantise(drawn(0, 3, 5)), torch.arange(3.0))[1], torch.arange(3.0)
    )


@pytest.mark.parametrize("queries", [1, 2, 3, 4, 5, 9])
def test_products_are_those_of_the_rounded_numbers(queries: int) -> None:
    x, rows, bias = drawn(1, queries, 33), quantise(drawn(2, 21, 33)), drawn(3, 1, 21)[0]
    expected = dequantise(quantise(x)) @ dequantise(rows).T + bias
    torch.testing.assert_close(products(x, rows, bias), expected, rtol=1e-4, atol=1e-4)


def test_products_rank_as_float32_does() -> None:
    x, matrix, bias = drawn(1, 20, 64), drawn(2, 500, 64), torch.zeros(500)
    exact, rounded = x @ matrix.T, products(x, quantise(matrix), bias)
    assert float((exact - rounded).abs().max()) < 0.02 * float(exact.abs().max())
    for one, other in zip(exact, rounded, strict=True):
        assert spearmanr(one, other).statistic > 0.999
