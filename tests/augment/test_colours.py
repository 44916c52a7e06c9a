"""Colours, blurs, noise and weather against independent implementations and their own rules."""

from __future__ import annotations

import colorsys
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.image.files import decode_rgb
from uhd.train.augment.canvas import Canvas
from uhd.train.augment.colour import ColourJitter, from_hsv, to_hsv
from uhd.train.augment.geometry import ZoomCrop
from uhd.train.augment.op import PictureOp
from uhd.train.augment.pictures import Pictures, noise, normal_noise
from uhd.train.augment.registry import OPS
from uhd.train.photos import PhotoStore

torch.set_num_threads(1)


def pictures(count: int = 3, height: int = 24, width: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth random bytes [n,3,h,w] as float."""
    rng = np.random.default_rng(seed)
    made = [cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (width, height)) for _ in range(count)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float()


def change(name: str, planes: torch.Tensor, u: torch.Tensor | None = None, **values: Any) -> torch.Tensor:
    """Apply one operation to all pictures, its numbers drawn or given."""
    op = OPS[name].model_validate({"prob": 1.0, **values})
    assert isinstance(op, PictureOp)
    if u is None:
        raw = torch.rand(op.draws * len(planes), generator=torch.Generator().manual_seed(1))
        u = op.arrange(raw, len(planes))
    made = Pictures(planes.clone(), 255.0, torch.zeros(len(planes), dtype=torch.bool))
    op.paint(made, u)
    assert made.planes.min() >= 0 and made.planes.max() <= 255
    return made.planes


PAINTERS = [name for name, kind in OPS.items() if issubclass(kind, PictureOp) and name != "SingleChroma"]


@pytest.mark.parametrize("name", PAINTERS)
def test_probability_whites_and_rows(name: str) -> None:
    """Only the chosen change; a picture's result depends neither on its neighbours nor on the scale of values."""
    planes = pictures(5)
    values: dict[str, Any] = {"hue_gain": 0.2} if name == "RandomHSV" else {}
    op = OPS[name].model_validate({"prob": 0.6, **values})
    assert isinstance(op, PictureOp)
    u = op.arrange(torch.rand(op.draws * 5, generator=torch.Generator().manual_seed(4)), 5)
    u[:, 0] = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.59])
    made = Pictures(planes.clone(), 255.0, torch.zeros(5, dtype=torch.bool))
    op.paint(made, u)
    assert torch.equal(made.planes[[1, 3]], planes[[1, 3]]), "not chosen"
    assert (made.planes[[0, 2, 4]] != planes[[0, 2, 4]]).flatten(1).any(1).all() or name == "CLAHE"
    alone = Pictures(planes[2:3].clone(), 255.0, torch.zeros(1, dtype=torch.bool))
    op.paint(alone, u[2:3])
    assert torch.allclose(alone.planes[0], made.planes[2], atol=1e-3)
    unit = Pictures(planes / 255, 1.0, torch.zeros(5, dtype=torch.bool))
    op.paint(unit, u)
    assert torch.allclose(unit.planes * 255, made.planes, atol=0.02)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.floats(-2, 2))
def test_hsv_there_and_back(rgb: list[float], turn: float) -> None:
    planes = torch.tensor(rgb)[None, :, None, None]
    hsv = to_hsv(planes, 1.0)
    assert torch.allclose(from_hsv(*hsv), planes, atol=1e-5)
    expected = colorsys.rgb_to_hsv(*planes.flatten().double().tolist())
    if expected[2] > 1e-3 and expected[1] > 1e-3:
        assert [float(part) for part in hsv] == pytest.approx(expected, abs=1e-4)
    turned = from_hsv(hsv[0] + turn, hsv[1], hsv[2])
    again = colorsys.hsv_to_rgb((float(hsv[0]) + turn) % 1, float(hsv[1]), float(hsv[2]))
    assert turned.flatten().tolist() == pytest.approx(again, abs=1e-4)


def test_hsv_gains_against_opencv() -> None:
    planes = pictures(2, seed=3)
    u = torch.tensor([[0.0, 0.75, 1.0, 0.25]] * 2)
    got = change("RandomHSV", planes, u, hue_gain=0.1, saturation_gain=0.5, value_gain=0.4)
    for before, after in zip(planes, got, strict=True):
        hsv = cv2.cvtColor(before.permute(1, 2, 0).numpy() / 255, cv2.COLOR_RGB2HSV)  # hue 0..360
        hsv[..., 0] = hsv[..., 0] * 1.05 % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * 1.5, 0, 1)
        hsv[..., 2] = np.clip(hsv[..., 2] * 0.8, 0, 1)
        assert np.abs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255 - after.permute(1, 2, 0).numpy()).max() < 0.1


@pytest.mark.parametrize("size", [3, 5, 7])
def test_blurs_against_opencv(size: int) -> None:
    planes = pictures(2, seed=size)
    filters = {
        "Blur": lambda rgb: cv2.blur(rgb, (size, size)),
        "GaussianBlur": lambda rgb: cv2.GaussianBlur(rgb, (size, size), 1.3),
        "MedianBlur": lambda rgb: cv2.medianBlur(rgb.astype(np.uint8), size),
    }
    for name, reference in filters.items():
        extra: dict[str, Any] = {"sigma_limit": 1.3} if name == "GaussianBlur" else {}
        got = change(name, planes, blur_limit=size, **extra)
        for before, after in zip(planes, got, strict=True):
            expected = reference(np.ascontiguousarray(before.permute(1, 2, 0).numpy()))
            assert np.abs(expected - after.permute(1, 2, 0).numpy()).max() < 0.01, name


def test_kernel_sizes_are_mixed_in_a_batch_and_fit_small_pictures() -> None:
    planes = pictures(40)
    u = torch.rand(40, 3)
    for name in ("Blur", "MedianBlur", "GaussianBlur", "MotionBlur"):
        numbers = u[:, : OPS[name]().draws]
        together = change(name, planes, numbers)
        apart = torch.cat([change(name, planes[i : i + 1], numbers[i : i + 1]) for i in range(40)])
        assert torch.allclose(together, apart, atol=1e-3), name
        assert change(name, pictures(2, 8, 8), blur_limit=31).shape == (2, 3, 8, 8)


def test_motion_blurs_along_one_line() -> None:
    dot = torch.zeros(2, 3, 21, 21)
    dot[:, :, 10, 10] = 255
    across, down = change("MotionBlur", dot, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]), blur_limit=7)
    assert (across[:, 10, 7:14] > 30).all() and across.sum() == pytest.approx(3 * 255, rel=1e-5)
    assert across[:, :10].sum() + across[:, 11:].sum() == 0
    assert (down[:, 7:14, 10] > 30).all() and down[..., :10].sum() + down[..., 11:].sum() == 0


def test_compression_is_a_jpeg_of_that_quality() -> None:
    planes = pictures(1, 32, 32)
    rgb = planes[0].permute(1, 2, 0).numpy().astype(np.uint8)
    got = change("ImageCompression", planes, quality_range=[20, 20])
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20])[1].tobytes()
    assert np.array_equal(decode_rgb(data, "jpeg"), got[0].permute(1, 2, 0).numpy())


def test_noise_is_what_it_says() -> None:
    grey = torch.full((4, 3, 64, 64), 128.0)
    spread = change("GaussNoise", grey, var_limit=20).flatten(1)
    assert spread.std(1).tolist() == pytest.approx([20] * 4, rel=0.03) and abs(float(spread.mean()) - 128) < 0.5
    assert abs(float(torch.corrcoef(spread)[0, 1])) < 0.03, "each picture its own"
    iso = change("ISONoise", grey, intensity=0.05, color_shift=0.1)
    assert iso.std((2, 3)).mean() == pytest.approx(0.05 * 255, rel=0.1)
    assert 5 < iso.mean((2, 3)).std() < 60, "channels are shifted"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 50))
def test_hash_noise_is_uniform_and_repeats(seed: int, stream: int) -> None:
    seeds = torch.tensor([seed, seed + 1])
    values = noise(seeds, 4000, stream)
    assert values.min() >= 0 and values.max() < 1
    assert torch.equal(values[1:], noise(seeds[1:], 4000, stream)), "a row is a function of its own seed"
    assert values.mean(1).tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert abs(float(torch.corrcoef(values)[0, 1])) < 0.08
    assert abs(float(torch.corrcoef(torch.stack([values[0], noise(seeds, 4000, stream + 1)[0]]))[0, 1])) < 0.08
    assert normal_noise(seeds, 3999).std(1).tolist() == pytest.approx([1, 1], abs=0.06)


def test_weather() -> None:
    dark = torch.zeros(3, 3, 64, 64)
    rain = change("RandomRain", dark, density=0.002)
    wet = rain[:, 0] > 0
    assert set(rain.unique().tolist()) == {0.0, 200.0}
    assert 8 * 8 <= int(wet[0].sum()) <= 8 * 31 * 2, "eight drops"
    assert torch.equal(change("RandomRain", dark, density=0.0), dark)
    fog = change("RandomFog", dark, fog_coef=0.5)
    assert fog.min() >= 0.35 * 255 and fog.max() <= 127.51 and (fog.flatten(1).std(1) < 1e-3).all()
    flare = change("RandomSunFlare", dark, src_radius_range=[5, 5], src_intensity=1.0)
    assert ((flare > 254).flatten(1).sum(1) <= 3 * 81).all() and ((flare > 254).flatten(1).sum(1) >= 3 * 20).all()


def test_distortion_keeps_the_order_of_channels_unless_told() -> None:
    red = torch.zeros(60, 3, 8, 8)
    red[:, 0], red[:, :, :4] = 200, red[:, :, :4] + 20
    assert (change("RandomPhotometricDistort", red).mean((2, 3)).argmax(1) == 0).all()
    first = change("RandomPhotometricDistort", red, permute_channels=1.0).mean((2, 3)).argmax(1)
    assert torch.bincount(first, minlength=3).min() > 8


def jitter(planes: torch.Tensor, **values: float) -> torch.Tensor:
    off = {"channel_gain": 0.0, "hue": 0.0, "saturation": 0.0, "contrast": 0.0, "brightness": 0.0, "grey": 0.0}
    return change("ColourJitter", planes, **{**off, **values})


def test_the_default_jitter_keeps_to_its_rules() -> None:
    planes = pictures(4)
    assert torch.allclose(jitter(planes), planes, atol=1e-3)
    luma = (planes * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert torch.allclose(jitter(planes, grey=1.0), luma.expand_as(planes), atol=1e-2)
    bright = jitter(planes, brightness=0.1) - planes
    inside = (planes > 30) & (planes < 225)
    assert 0 < bright[inside].abs().max() <= 25.5 + 1e-3
    assert torch.allclose(jitter(torch.full_like(planes, 90), hue=1.0), torch.tensor(90.0), atol=1e-2), (
        "grey has no hue"
    )
    assert torch.allclose(jitter(torch.full_like(planes, 127.5), contrast=1.0), torch.tensor(127.5), atol=1e-2)
    op = ColourJitter(channel_gain=0.3)
    matrix, _ = op.matrices(torch.rand(50, 8), 255.0)
    assert (matrix.sum(2) > 0.2).all()


def test_the_default_crop_keeps_to_its_rules() -> None:
    store = PhotoStore.build((np.zeros((h, w, 3), np.uint8), np.zeros((0, 5))) for h, w in ((120, 200), (300, 80)))
    photos = torch.arange(1000) % 2
    sizes = store.sizes[photos].flip(1).double()
    canvas = Canvas(store, photos)
    op = ZoomCrop(prob=0.8, scale=(0.4, 1.3), mirror=0.25)
    op.plan(canvas, op.arrange(torch.rand(6000, generator=torch.Generator().manual_seed(0)), 1000))
    low, high = canvas.low, canvas.low + canvas.span
    smaller = canvas.span <= sizes
    assert ((low >= 0) & (high <= sizes))[smaller].all(), "a smaller window lies inside"
    assert ((low <= 0) & (high >= sizes))[~smaller].all(), "a larger one holds the photo"
    ratio = canvas.span / sizes
    assert ratio.min() > 0.4 * 0.87 and ratio.max() < 1.3 * 1.15
    whole = (canvas.span == sizes).all(1)
    assert 0.15 < whole.float().mean() < 0.27 and 0.2 < canvas.flip[:, 0].float().mean() < 0.3
