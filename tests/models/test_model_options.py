"""Configurations of all architectures: strictness, aliases, derived numbers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from support.architectures import SMALL
from uhd.errors import ConfigError, ModelError
from uhd.models import CnnConfig, UltraTinyODConfig, build_model, parse_options


@pytest.mark.parametrize("name", SMALL)
def test_every_configuration_answers_the_same_questions(name: str) -> None:
    arch, options = SMALL[name]
    config = parse_options(arch, options, name)
    assert config.arch == arch
    assert parse_options(config.arch, config.options(), name) == config
    assert config.head == {"utod": "anchor", "anchor": "anchor", "cnn": "centernet", "resnet": "centernet"}.get(
        name, "detr"
    )
    assert config.in_channels == options.get("in_channels", 3)
    assert config.class_count == options.get("num_classes", 1)
    assert set(config.maps_for()) <= set(config.map_names)
    assert config.quality_power == 1.0
    model = build_model(config.arch, config.options())
    assert model.config == config
    assert model.anchors.shape == model.wh_scale.shape == (3 if config.head == "anchor" else 0, 2)


@pytest.mark.parametrize(
    ("arch", "options", "match"),
    [
        ("resnet", {}, "x: unknown architecture 'resnet'; choose one of ultratinyod, cnn, transformer"),
        ("cnn", {"widht": 3}, "x: option widht: Extra inputs"),
        ("cnn", {"cnn_width": 0}, "option cnn_width"),
        ("cnn", {"cnn_width": "8"}, "option cnn_width"),
        ("cnn", {"output_stride": 32}, "option output_stride"),
        ("cnn", {"backbone": "resnet50"}, "option backbone"),
        ("cnn", {"backbone_channels": [4, 8]}, "names 2 stages, backbone_blocks 4"),
        ("cnn", {"backbone_channels": [], "backbone_blocks": []}, "names 0 stages"),
        ("cnn", {"backbone_channels": [0], "backbone_blocks": [1]}, "must be positive"),
        ("cnn", {"disable_cls": True}, "needs an anchor head"),
        ("cnn", {"use_anchor": True, "anchors": [[0.1, 0.0]]}, "not a positive size"),
        ("cnn", {"use_anchor": True, "anchors": [0.1]}, "option anchors"),
        ("cnn", {"last_width_scale": float("nan")}, "option last_width_scale"),
        ("transformer", {"heads": 3}, "d_model 64 is not a multiple of heads 3"),
        ("transformer", {"d_model": 6, "heads": 2}, "not a multiple of 4"),
        ("transformer", {"dropout": 1.0}, "option dropout"),
        ("ultratinyod", {"num_queries": 3}, "option num_queries"),
    ],
)
def test_refusals_in_one_line(arch: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        parse_options(arch, options, "x", ModelError)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        build_model(arch, options)


def test_spellings() -> None:
    config = CnnConfig.model_validate({"activation": "swish", "backbone": "Enhanced_ShuffleNet", "last_se": "ese"})
    assert (config.activation, config.backbone) == ("silu", "enhanced-shufflenet")
    assert CnnConfig.model_validate({"backbone": "none"}).backbone is None
    assert UltraTinyODConfig.model_validate({"activation": "swish"}).activation == "silu"
    assert CnnConfig.model_validate({"backbone_channels": None}).backbone_channels == (16, 24, 32, 48)


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, "none"),
        ({"backbone_skip": True}, "add"),
        ({"backbone_skip_cat": True}, "cat"),
        ({"backbone_skip_cat": True, "backbone_skip_shuffle_cat": True}, "shuffle_cat"),
        ({"backbone_skip": True, "backbone_skip_s2d_cat": True, "backbone_skip_shuffle_cat": True}, "s2d_cat"),
    ],
)
def test_precedence_of_skips(options: dict[str, Any], mode: str) -> None:
    assert CnnConfig(**options).skip_mode == mode


@pytest.mark.parametrize(
    ("options", "stride", "channels"),
    [
        ({"output_stride": 4, "cnn_width": 10, "last_width_scale": 1.26}, 4, 13),
        ({"cnn_width": 10, "last_width_scale": 0.5}, 16, 10),
        ({"backbone": "microcspnet", "output_stride": 4}, 8, 64),
        ({"backbone": "enhanced-shufflenet", "backbone_out_stride": 32}, 8, 128),
        ({"backbone": "ultratinyresnet"}, 8, 48),
        ({"backbone": "ultratinyresnet", "backbone_out_stride": 2}, 8, 48),
        ({"backbone": "ultratinyresnet", "backbone_out_stride": 9}, 16, 48),
        ({"backbone": "ultratinyresnet", "backbone_channels": (5,), "backbone_blocks": (1,)}, 1, 5),
    ],
)
def test_strides_and_channels(options: dict[str, Any], stride: int, channels: int) -> None:
    config = CnnConfig(**options)
    assert (config.out_stride, config.feature_channels) == (stride, channels)


@pytest.mark.parametrize(
    ("options", "mode", "needed"),
    [
        ({}, "cls", ("hm", "off", "wh")),
        ({"use_anchor": True}, "obj_cls", ("box", "obj", "cls")),
        ({"use_anchor": True, "score_mode": "cls"}, "cls", ("box", "cls")),
        ({"use_anchor": True, "score_mode": "quality"}, "quality", ("box", "obj")),
        ({"use_anchor": True, "disable_cls": True, "score_mode": "quality_cls"}, "obj", ("box", "obj")),
    ],
)
def test_score_modes(options: dict[str, Any], mode: str, needed: tuple[str, ...]) -> None:
    config = CnnConfig(**options)
    assert config.resolved_score_mode == mode
    assert config.maps_for() == needed


def test_options_need_no_torch() -> None:
    code = "import sys, uhd.models, uhd.models.reference_cnn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
