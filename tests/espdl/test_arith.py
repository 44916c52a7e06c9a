"""Rounding against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.espdl_reference import clamp, round_fraction
from uhd.espdl.arith import round_ratio, round_real, round_shift, saturate
from uhd.targets import Rounding

ROUNDINGS: list[Rounding] = ["half_up", "half_even"]
roundings = st.sampled_from(ROUNDINGS)
near_ties = st.builds(
    lambda base, half, offset: base * 2 * half + half + offset,
    st.integers(-5000, 5000),
    st.sampled_from([1 << k for k in range(12)]),
    st.integers(-1, 1),
)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | near_ties, min_size=1, max_size=20), st.integers(0, 80), roundings)
def test_right_shift_equals_the_fraction(values: list[int], shift: int, rounding: Rounding) -> None:
    result = round_shift(np.array(values, np.int64), shift, rounding)
    assert result.tolist() == [round_fraction(Fraction(v, 1 << shift), rounding) for v in values]


@given(st.lists(st.tuples(near_ties, st.integers(-31, 40)), min_size=1, max_size=20), roundings)
def test_a_shift_for_each_channel(pairs: list[tuple[int, int]], rounding: Rounding) -> None:
    values = np.array([[v for v, _ in pairs]], np.int64)
    result = saturate(round_shift(values, [s for _, s in pairs], rounding), "int16")
    expected = [clamp(round_fraction(Fraction(v) / Fraction(2) ** s, rounding), 16) for v, s in pairs]
    assert result.dtype == np.int16
    assert result[0].tolist() == expected


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-200, -1), st.sampled_from(["int8", "int16"]))
def test_left_shift_saturates_like_the_exact_product(value: int, shift: int, dtype: str) -> None:
    bits = np.iinfo(dtype).bits
    result = saturate(round_shift(np.array([value], np.int64), shift, "half_up"), dtype)
    assert result[0] == clamp(value << -shift, bits)


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20), roundings)
def test_ratio_equals_the_fraction(numerator: int, denominator: int, rounding: Rounding) -> None:
    assert round_ratio(numerator, denominator, rounding) == round_fraction(Fraction(numerator, denominator), rounding)


@pytest.mark.parametrize(
    ("rounding", "expected"), [("half_up", [-2, -1, 0, 1, 2, 3]), ("half_even", [-2, -2, 0, 0, 2, 2])]
)
def test_ties(rounding: Rounding, expected: list[int]) -> None:
    halves = [-5, -3, -1, 1, 3, 5]
    assert round_shift(np.array(halves, np.int64), 1, rounding).tolist() == expected
    assert [round_ratio(v, 2, rounding) for v in halves] == expected
    assert round_real(np.array(halves) / 2, rounding).tolist() == expected


def test_real_numbers_far_out_saturate() -> None:
    assert round_real(np.array([1e300, -1e300, 0.49]), "half_up").tolist() == [2**31, -(2**31), 0]


def test_saturation_limits() -> None:
    wide = np.array([-129, -128, 127, 128], np.int64)
    assert saturate(wide, "int8").tolist() == [-128, -128, 127, 127]
    assert saturate(wide * 300, "int16").tolist() == [-32768, -32768, 32767, 32767]
