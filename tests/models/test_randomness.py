"""Every draw is a function of its stream and its number alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.randomness import below, draw, hash64, mix, normal, uniform

BITS = st.integers(0, 2**64 - 1)
NUMBER = st.integers(0, 2**40)
GOLDEN = 0x9E3779B97F4A7C15


def plain_mix(x: int) -> int:
    """SplitMix64 with Python's integers."""
    z = (x + GOLDEN) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_mixer_gives_the_published_first_numbers_of_seed_0() -> None:
    assert int(mix(np.uint64(0))) == 0xE220A8397B1DCDAF
    assert int(draw(np.uint64(0), 1)) == 0x6E789E6AA1B965F4


@settings(deadline=None)
@given(stream=BITS, number=NUMBER)
def test_draws_are_those_of_plain_integers(stream: int, number: int) -> None:
    bits = plain_mix((stream + number * GOLDEN) % 2**64)
    assert int(draw(np.uint64(stream), number)) == bits
    assert uniform(np.uint64(stream), number) == (bits >> 11) / 2**53


@settings(deadline=None)
@given(stream=BITS, number=NUMBER, n=st.integers(1, 2**31))
def test_an_integer_is_below_its_bound(stream: int, number: int, n: int) -> None:
    assert 0 <= below(np.uint64(stream), number, n) < n


def test_integers_are_spread_evenly() -> None:
    counts = np.bincount([below(np.uint64(5), j, 7) for j in range(7000)], minlength=7)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_normals_have_mean_0_and_deviation_1() -> None:
    drawn = np.array([normal(np.uint64(9), j) for j in range(20_000)])
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.std() - 1) < 0.03
    assert abs(np.mean(drawn[1:] * drawn[:-1])) < 0.03


def test_a_hash_is_the_same_on_every_machine_and_never_0() -> None:
    assert hash64("item 7") == 0x25C7CEB026238C16
    assert len({hash64(f"item {n}") for n in range(10_000)} - {0}) == 10_000
