"""Import of published .pt files: which weights, which architecture, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support.golden import with_recipe_weights
from uhd.errors import ModelError
from uhd.models import FAMILIES, family_config
from uhd.models.checkpoint import load_checkpoint
from uhd.models.reference import SETTINGS, infer_from_weights, parse_size
from uhd.models.ultratinyod import UltraTinyOD, UltraTinyODConfig

FULL: dict[str, Any] = {
    "width": 4, "residual": True, "improved_head": True, "iou_aware_head": True, "large_obj_branch": True,
    "large_obj_depth": 2, "large_obj_ch_scale": 1.25,
}  # fmt: skip


def settings_of(config: UltraTinyODConfig) -> dict[str, Any]:
    """The settings a published file stores for a configuration."""
    stored = {setting: getattr(config, field) for setting, field in SETTINGS.items()}
    return {**stored, "arch": "ultratinyod", "img_size": "64x64", "resize_mode": "opencv_inter_nearest", "epoch": 7}


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def model_of(**options: Any) -> UltraTinyOD:
    return with_recipe_weights(UltraTinyOD(UltraTinyODConfig(**{**FULL, **options})))


VARIED = [
    {},
    *({"quant_arch": arch} for arch in range(12)),
    {"conv": "std"},
    {"batchnorm": False},
    {"sppf_scale": "bn"},
    {"sppf_scale": "conv"},
    {"head_ese": True, "context_rfb": True, "large_obj_branch": False},
    {"iou_aware_head": False},
    {"iou_aware_head": False, "improved_head": False, "residual": False},
    {"disable_cls": True},
    {"num_classes": 3, "attr_classes": 2},
    {"in_channels": 1},
    {"large_obj_depth": 3, "large_obj_ch_scale": 0.5},
    {"width": 16, "cls_bottleneck_ratio": 0.25},
]


@pytest.mark.parametrize("options", VARIED, ids=str)
def test_architecture_from_names_and_shapes_alone(tmp_path: Path, options: dict[str, Any]) -> None:
    """A bare dictionary of tensors loads, and computes the same but for what leaves no trace in weights."""
    model = model_of(**options).eval()
    imported, _ = load_checkpoint(write(tmp_path / "bare.pt", model.state_dict()))
    same = {"large_obj_depth", "large_obj_ch_scale"} if not model.config.large_obj_branch else set()
    if model.config.quant_arch in (4, 10, 11):
        same |= {"quant_arch", "residual"}
    want, got = (config.model_dump(exclude=same | {"anchors"}) for config in (model.config, imported.config))
    assert got == want
    if model.config.quant_arch != 4:
        x = torch.rand(1, model.config.in_channels, 32, 32)
        with torch.no_grad():
            assert torch.equal(imported(x), model(x))


@pytest.mark.parametrize("options", [*VARIED, {"out_stride": 4, "context_rfb": True, "context_dilation": 3}], ids=str)
def test_architecture_from_settings(tmp_path: Path, options: dict[str, Any]) -> None:
    model = model_of(activation="relu", score_mode="obj_cls", **options)
    stored = {"model": model.state_dict(), **settings_of(model.config)}
    if model.config.in_channels == 1:
        del stored["resize_mode"]
    imported, manifest = load_checkpoint(write(tmp_path / "full.pt", stored))
    assert imported.config.with_anchors(model.config.anchors) == model.config
    assert manifest.resize_mode == (
        "opencv_inter_nearest_y" if model.config.in_channels == 1 else "opencv_inter_nearest"
    )
    assert manifest.training["epoch"] == 7


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_recognised(family: str) -> None:
    config = family_config(family, 16)
    with torch.device("meta"):
        model = UltraTinyOD(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    guess = infer_from_weights(shapes, config.anchor_count, family)
    guess |= {"activation": config.activation, "anchors": config.anchors}
    assert UltraTinyODConfig(**guess).model_dump(
        exclude={"large_obj_depth", "large_obj_ch_scale"}
    ) == config.model_dump(exclude={"large_obj_depth", "large_obj_ch_scale"})


@pytest.mark.parametrize(
    ("stored", "averaged"),
    [
        ({}, True),
        ({"use_ema": True}, True),
        ({"use_ema": False}, False),
        ({"use_ema": None}, False),
        ({"ema": None}, False),
        ({"ema": None, "use_ema": True}, False),
    ],
)
def test_choice_of_averaged_weights(tmp_path: Path, stored: dict[str, Any], averaged: bool) -> None:
    plain, ema = model_of().state_dict(), model_of().state_dict()
    ema["head.box_out.bias"] = plain["head.box_out.bias"] + 1
    model, manifest = load_checkpoint(write(tmp_path / "a.pt", {"model": plain, "ema": ema, **stored}))
    want = ema if averaged else plain
    assert torch.equal(model.head.box_out.bias, want["head.box_out.bias"])
    assert manifest.training["averaged_weights"] is averaged


def test_other_containers(tmp_path: Path) -> None:
    state = model_of().state_dict()
    for name, content in (("state_dict", {"state_dict": state}), ("bare", state)):
        model, manifest = load_checkpoint(write(tmp_path / f"{name}.pt", content))
        assert torch.equal(model.head.box_out.bias, state["head.box_out.bias"])
        assert manifest.name == name
    torch.save({"model": state}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "old.pt")[0].config.width == 4


def test_anchors_from_settings_when_weights_have_none(tmp_path: Path) -> None:
    state = model_of().state_dict()
    anchors = state.pop("head.anchors")
    path = write(tmp_path / "a.pt", {"model": state, "anchors": [tuple(pair) for pair in anchors.tolist()]})
    assert torch.equal(load_checkpoint(path)[0].anchors, anchors)
    with pytest.raises(ModelError, match="holds no anchors"):
        load_checkpoint(write(tmp_path / "b.pt", {"model": state}))


class Payload:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda s: {"model": s, "arch": "cnn"}, "says architecture 'cnn'"),
        (lambda s: {"model": s, "arch": "transformer"}, "not the weights of a transformer"),
        (lambda s: {"model": s, "arch": "resnet"}, "holds architecture 'resnet'"),
        (lambda s: {"model": {k.replace("back", "a"): v for k, v in s.items()}}, "not the weights of an UltraTinyOD"),
        (lambda s: {"model": {**s, "head.box_out.weight_fake_quant.scale": torch.ones(1)}}, "quantization-aware"),
        (lambda s: {k: v for k, v in s.items() if k != "head.obj_out.bias"}, "1 missing"),
        (lambda s: {"model": s, "utod_large_obj_depth": 1}, "do not fit the architecture"),
        (lambda s: {"model": s, "activation": "gelu"}, "option activation"),
        (lambda s: {"model": s, "img_size": "huge"}, "image size 'huge' is not HxW"),
        (lambda s: {"model": s, "resize_mode": "bicubic"}, "unknown resize mode 'bicubic'"),
        (lambda s: {"model": s, "resize_mode": "opencv_inter_nearest_y"}, "makes 1 channels"),
        (lambda s: {"model": {k: v for k, v in s.items() if k != "head.anchors"}, "anchors": [7]}, "anchors"),
        (lambda s: {"model": {}}, "holds no weights"),
        (lambda s: {"model": None}, "holds no weights"),
        (lambda s: [s], "not a checkpoint"),
        (lambda s: {"model": s, "note": Payload()}, "holds more than weights and settings"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, match: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.pt", content(model_of().state_dict()))
    with pytest.raises(ModelError, match=match) as caught:
        load_checkpoint(path)
    assert "a.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


@pytest.mark.parametrize("cut", [10, 1000, -1])
def test_truncated(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.pt", {"model": model_of().state_dict()})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="a.pt: "):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("value", "size"),
    [("64x64", (64, 64)), ("48X80", (48, 80)), (96, (96, 96)), ([32, 64], (32, 64)), ("64", (64, 64))],
)
def test_image_sizes(value: Any, size: tuple[int, int]) -> None:
    assert parse_size(value, "x") == size
    with pytest.raises(ModelError):
        parse_size("0x64", "x")
