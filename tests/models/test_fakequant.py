"""Fake quantization: grid, range, gradient, and what of the model it touches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uhd.models.blocks import ConvBNAct, Style
from uhd.models.config import Bits
from uhd.models.fakequant import bake_weights, quantize_activation, quantize_weight
from uhd.models.ultratinyod import UltraTinyOD, UltraTinyODConfig

weights = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 3), st.just(2)), elements=st.floats(-8, 8, width=32)
)


@given(weights, st.integers(2, 8))
def test_weights_lie_on_a_grid_per_output_channel(array: np.ndarray, bits: int) -> None:
    limit = 2 ** (bits - 1) - 1
    rounded = quantize_weight(torch.from_numpy(array), bits).numpy()
    for before, after in zip(array.reshape(len(array), -1), rounded.reshape(len(array), -1), strict=True):
        step = max(np.abs(before).max() / limit, 1e-8)
        steps = after / step
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-2)
        assert np.abs(steps).max() <= limit + 1e-2
        assert np.abs(after - before).max() <= step * 0.501 + 1e-6


def test_activations_share_one_scale_and_zero_stays_zero() -> None:
    x = torch.tensor([[0.0, 0.4, -0.6], [7.0, 3.4, -3.6]])
    assert quantize_activation(x, 4).tolist() == [[0.0, 0.0, -1.0], [7.0, 3.0, -4.0]]
    assert quantize_activation(torch.zeros(2, 2), 4).abs().max() == 0


@pytest.mark.parametrize("bits", [0, 1])
def test_below_two_bits_nothing_happens(bits: int) -> None:
    x = torch.randn(3, 3)
    assert quantize_activation(x, bits) is x
    assert quantize_weight(x, bits) is x


def test_gradient_passes_straight_through() -> None:
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    (quantize_activation(x, 3) * torch.arange(9)).sum().backward()
    assert torch.equal(x.grad, torch.arange(9, dtype=torch.float32))


def test_block_rounds_weights_and_output() -> None:
    torch.manual_seed(0)
    block = ConvBNAct(3, 4, 3, Style(bits=Bits(3, 3))).eval()
    y = block(torch.rand(1, 3, 8, 8))
    assert len(y.unique()) <= 7
    plain = torch.nn.functional.conv2d(torch.ones(1, 3, 3, 3), quantize_weight(block.conv.weight, 3))
    middle = block.conv(torch.ones(1, 3, 3, 3))[:, :, 1:2, 1:2]
    torch.testing.assert_close(middle, plain)


def test_only_the_chosen_region_is_rounded() -> None:
    model = UltraTinyOD(UltraTinyODConfig(width=4, head_ese=True, context_rfb=True, w_bits=4, quant_target="head"))
    bits = {
        name: getattr(module, "weight_bits", 0) for name, module in model.named_modules() if hasattr(module, "weight")
    }
    assert bits["head.box_out"] == bits["head.context.dw.conv"] == 4
    assert not any(value for name, value in bits.items() if name.startswith("backbone."))
    assert bits["head.head_se.fc"] == bits["head.head_rfb.branch_wide.0"] == 0


def test_baked_weights_compute_the_same() -> None:
    torch.manual_seed(0)
    model = UltraTinyOD(UltraTinyODConfig(width=4, improved_head=True, w_bits=4, a_bits=4)).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        stored = model.backbone.stem.conv.weight.clone()
        bake_weights(model)
        assert torch.equal(model(x), before)
    assert not torch.equal(model.backbone.stem.conv.weight, stored)
    assert len(model.backbone.stem.conv.weight[0].unique()) <= 15
