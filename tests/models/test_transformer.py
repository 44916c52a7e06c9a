"""Transformer: sizes, the positional encoding's formula, and independence of pictures and queries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.architectures import small
from uhd.models import TransformerConfig
from uhd.models.transformer import Transformer, position_encoding


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 3),
    width=st.integers(1, 2),
    layers=st.integers(1, 2),
    queries=st.integers(1, 5),
    classes=st.integers(1, 3),
    use_fpn=st.booleans(),
    use_batchnorm=st.booleans(),
    activation=st.sampled_from(["relu", "silu"]),
    size=st.tuples(st.integers(8, 20), st.integers(8, 20)),
)
def test_shapes_and_gradients(
    heads: int, width: int, layers: int, queries: int, classes: int, use_fpn: bool, use_batchnorm: bool,
    activation: str, size: tuple[int, int],
) -> None:  # fmt: skip
    config = TransformerConfig(
        d_model=4 * width * heads, heads=heads, layers=layers, num_queries=queries, num_classes=classes,
        dim_feedforward=6, use_fpn=use_fpn, use_batchnorm=use_batchnorm, activation=activation, in_channels=2,
    )  # fmt: skip
    model = Transformer(config)
    x = torch.rand(2, 2, *size)
    maps = model.maps(x)
    assert maps["logits"].shape == (2, queries, classes + 1)
    assert maps["boxes"].shape == (2, queries, 4)
    assert bool(((maps["boxes"] > 0) & (maps["boxes"] < 1)).all())
    assert model.features(x).shape == (2, config.d_model, *(-(-n // config.out_stride) for n in size))
    sum(value.square().sum() for value in maps.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(("d", "height", "width"), [(8, 2, 3), (12, 3, 1), (64, 2, 2)])
def test_position_encoding_equals_its_formula(d: int, height: int, width: int) -> None:
    table = position_encoding(height, width, torch.zeros(1, d, height, width))
    assert table.shape == (height * width, d)
    for y in range(height):
        for x in range(width):
            for k in range(d // 4):
                omega = 10000 ** (-k / (d // 2))
                want = [math.sin(x * omega), math.cos(x * omega), math.sin(y * omega), math.cos(y * omega)]
                found = table[y * width + x, k :: d // 4].tolist()
                assert found == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("name", ["detr", "fpn"])
def test_pictures_of_a_batch_do_not_mix(name: str) -> None:
    model = small(name)
    x = torch.rand(3, model.config.in_channels, 16, 24)
    with torch.no_grad():
        together, alone = model.maps(x), model.maps(x[1:2])
    assert all(torch.allclose(together[key][1:2], alone[key], atol=1e-5) for key in alone)


def test_layers_start_different_from_each_other() -> None:
    model = Transformer(TransformerConfig(d_model=8, heads=2, layers=2, dim_feedforward=8))
    first, second = (layer.linear1.weight for layer in model.encoder.layers)
    assert not torch.equal(first, second)


def test_dropout_only_in_training() -> None:
    model = small("detr", dropout=0.5)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.maps(x)["logits"], model.maps(x)["logits"])
        model.train()
        assert not torch.equal(model.maps(x)["logits"], model.maps(x)["logits"])
