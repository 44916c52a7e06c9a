"""The fake quantizer against the integer arithmetic of the chips, and the search for a grid against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.errors import ConfigError
from uhd.espdl.arith import round_shift, saturate
from uhd.targets import Rounding
from uhd.train.qat.observe import FINEST, best_exponents, octave_moments, sampled, squared_errors
from uhd.train.qat.rounding import fake_quantize, power_of_two
from uhd.train.qat.settings import QatSettings

ROUNDINGS: tuple[Rounding, Rounding] = ("half_up", "half_even")


def exponent(value: int) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.int32)


@settings(max_examples=80, deadline=None)
@given(
    sums=st.lists(st.integers(-(2**45), 2**45), min_size=1, max_size=40),
    shift=st.integers(-3, 40),
    out=st.integers(-30, 5),
    bits=st.sampled_from((8, 16)),
    rounding=st.sampled_from(ROUNDINGS),
)
def test_sums_become_the_integers_that_the_chip_makes_of_them(
    sums: list[int], shift: int, out: int, bits: int, rounding: Rounding
) -> None:
    values = np.array([*sums, *(s // 2**shift * 2**shift + 2 ** (shift - 1) for s in sums if shift > 0)], np.int64)
    wanted = saturate(round_shift(values, shift, rounding), f"int{bits}")
    real = torch.from_numpy(values.astype(np.float64)) * 2.0 ** (out - shift)
    made = fake_quantize(real, exponent(out), bits, rounding) * 2.0**-out
    assert np.array_equal(made.numpy(), wanted)


@pytest.mark.parametrize(
    ("rounding", "wanted"),
    [("half_up", [-2, -1, 0, 1, 2, 3, 127, -128]), ("half_even", [-2, -2, 0, 0, 2, 2, 127, -128])],
)
def test_ties_and_ends(rounding: Rounding, wanted: list[int]) -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 400.0, -400.0])
    assert fake_quantize(x, exponent(0), 8, rounding).tolist() == wanted


def test_gradient_passes_where_nothing_saturates() -> None:
    x = torch.tensor([0.3, 127.4, 127.6, -128.4, -128.6, 9000.0], requires_grad=True)
    fake_quantize(x, exponent(0), 8, "half_up").sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 0, 1, 0, 0]


def test_exponents_of_channels_broadcast() -> None:
    x = torch.full((3, 1, 1, 1), 0.3)
    table = torch.tensor([-1, -2, -4], dtype=torch.int32).reshape(-1, 1, 1, 1)
    assert fake_quantize(x, table, 8, "half_up").flatten().tolist() == [0.5, 0.25, 0.3125]


@given(st.integers(-126, 127))
def test_powers_of_two_are_exact(value: int) -> None:
    for kind in (torch.float32, torch.float64):
        assert float(power_of_two(exponent(value), kind)) == 2.0**value


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), scale=st.integers(-12, 3), heavy=st.floats(0.5, 4), bits=st.sampled_from((8, 16)),
)  # fmt: skip
def test_found_exponent_loses_about_as_little_as_the_best(seed: int, scale: int, heavy: float, bits: int) -> None:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.sign(rng.normal(size=4000)) * np.abs(rng.normal(size=4000)) ** heavy * 2.0**scale)
    found = int(best_exponents(octave_moments(x), torch.tensor([bits]), torch.tensor([0]))[0])
    lost = {e: float((fake_quantize(x, exponent(e), bits, "half_up") - x).square().sum()) for e in range(-30, 8)}
    assert lost[found] <= 1.25 * min(lost.values())


def test_moments_of_groups_and_of_nothing() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.5, 3.9]])
    moments = octave_moments(x, 2)
    assert moments[0].sum() == 0
    assert moments[1].sum(0).tolist() == pytest.approx([3, 6.4, 1 + 2.25 + 3.9**2])
    found = best_exponents(moments, torch.tensor([8, 8]), torch.tensor([-11, -11]))
    assert found.tolist() == [-11, -5]  # 3.9 takes 2 bits before the point, 5 are left
    assert squared_errors(moments, torch.tensor([8, 8])).shape[0] == 2 and FINEST < -30


def test_sample_is_bounded_and_meets_every_channel() -> None:
    x = torch.arange(16.0).reshape(1, 16, 1, 1).expand(64, 16, 64, 8)
    few = sampled(x)
    assert few.numel() < 3 * 2**16 and set(few.tolist()) == set(range(16))


@pytest.mark.parametrize(
    "bad", [{"target": "esp8266"}, {"bits": 4}, {"patterns": ("(",)}, {"freeze_bn_epoch": -1}, {"preset": "fast"}]
)
def test_settings_out_of_range(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        QatSettings(**{"target": "c", **bad}).check()  # type: ignore[arg-type]


def test_presets_by_name() -> None:
    named = QatSettings("c", preset="precision", variant="R").quantizer()
    assert named == QatSettings("c", preset="R-precision").quantizer()
    assert named.preset is not None and "/box_out/Conv$" in named.preset.patterns
