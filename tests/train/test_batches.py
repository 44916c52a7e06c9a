"""Batches are a function of (seed, epoch, step); the camera's chroma; averages and rates over a run."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.scenes import scene_store
from uhd.train.batches import BatchMaker, network_input, single_chroma_input
from uhd.train.config import TrainConfig
from uhd.train.ema import EMA
from uhd.train.optimizer import make_optimizer
from uhd.train.schedule import learning_rate

YUV = "opencv_inter_nearest_yuv422"


def test_batches_do_not_depend_on_what_was_drawn_before() -> None:
    store = scene_store(6)
    config = TrainConfig(batch_size=2, epochs=5, mild_epochs=2)
    first, second = BatchMaker(store, config), BatchMaker(store, config)
    for step in range(3):
        first.batch(first.order(2), 2, step)
    torch.manual_seed(123)
    a, b = first.batch(first.order(3), 3, 1), second.batch(second.order(3), 3, 1)
    assert torch.equal(a.images, b.images) and torch.equal(a.targets.boxes, b.targets.boxes)
    assert not torch.equal(a.images, second.batch(second.order(3), 3, 2).images)
    other = BatchMaker(store, config.model_copy(update={"seed": 7}))
    assert not torch.equal(a.images, other.batch(other.order(3), 3, 1).images)


def test_an_epoch_visits_every_photo_once() -> None:
    maker = BatchMaker(scene_store(5), TrainConfig(batch_size=1))
    orders = [maker.order(epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert maker.steps == 5


def test_mild_epochs_vary_less() -> None:
    config = TrainConfig(crop_min=0.4, crop_max=1.2, brightness=0.2)
    mild = config.mild()
    assert (mild.crop_min, mild.crop_max, mild.brightness) == pytest.approx((0.7, 1.1, 0.1))
    assert mild.flip_prob == config.flip_prob and mild.crop_prob == config.crop_prob


def test_images_are_channels_last_in_memory_and_in_range() -> None:
    maker = BatchMaker(scene_store(4), TrainConfig(batch_size=4, single_chroma=0.5))
    images = maker.batch(maker.order(0), 0, 0).images
    assert images.shape == (4, 2, 64, 64) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.min() >= 0 and images.max() <= 1


def test_single_chroma_takes_u_of_the_even_and_v_of_the_odd_pixel() -> None:
    rgb = torch.randint(0, 256, (1, 4, 8, 3), dtype=torch.uint8)
    got = single_chroma_input(rgb)
    assert torch.equal(got[:, 0], network_input(rgb, YUV)[:, 0]), "luma stays"
    for x in range(8):
        alone = rgb[:, :, x : x + 1].expand(-1, -1, 2, -1)  # a pair of equal pixels has that pixel's chroma
        assert torch.equal(got[:, 1, :, x], network_input(alone, YUV)[:, 1, :, x % 2])


def test_single_chroma_changes_nothing_where_pairs_are_equal() -> None:
    rgb = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8).repeat_interleave(2, 2)
    assert torch.equal(single_chroma_input(rgb), network_input(rgb, YUV))


@given(total=st.integers(2, 5000), warmup=st.integers(0, 600), final=st.floats(0, 1))
def test_learning_rate_rises_then_falls_to_the_end(total: int, warmup: int, final: float) -> None:
    rates = [learning_rate(step, total, 0.01, warmup, final) for step in range(total)]
    top = rates.index(max(rates))
    assert top <= total // 10 + 1 and math.isclose(max(rates), 0.01)
    assert all(a <= b for a, b in zip(rates[:top], rates[1 : top + 1], strict=True))
    assert all(a >= b - 1e-15 for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
    assert math.isclose(rates[-1], 0.01 * final, abs_tol=1e-12) or total - min(warmup, total // 10) < 2
    assert all(rate > 0 for rate in rates[:-1])


def test_average_equals_the_recurrence() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    ema = EMA(model, 0.9)
    expected = {name: value.clone().double() for name, value in model.state_dict().items()}
    for update in range(1, 40):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(torch.randn(value.shape)) if value.is_floating_point() else value.add_(1)
        ema.update()
        keep = min(0.9, (1 + update) / (10 + update))
        for name, value in model.state_dict().items():
            old = expected[name]
            expected[name] = keep * old + (1 - keep) * value if value.is_floating_point() else value.clone().double()
    for name, value in ema.model.state_dict().items():
        assert torch.allclose(value.double(), expected[name], atol=1e-5), name
    assert not any(p.requires_grad for p in ema.model.parameters())


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_only_convolution_weights_decay(kind: str) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    config = TrainConfig.model_validate({"optimizer": kind, "weight_decay": 0.5, "lr": 0.1})
    optimizer = make_optimizer(model, config)
    before = {name: value.clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        decayed = 0.95 if kind == "adamw" else 1 - 0.1 * 0.5 * 1.9  # Nesterov adds 0.9 of the first step
        factor = decayed if name == "0.weight" else 1.0
        assert torch.allclose(value, before[name] * factor), name
