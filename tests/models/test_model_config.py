"""UltraTinyODConfig: strictness, derived numbers, score modes, quantization regions."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uhd.errors import ConfigError, ModelError
from uhd.models.config import Bits, UltraTinyODConfig, parse_config

MODES = ("obj_quality_cls", "quality_cls", "obj_cls", "obj_quality", "quality", "obj", "cls")

configs = st.builds(
    UltraTinyODConfig,
    width=st.integers(1, 300),
    num_classes=st.integers(1, 5),
    disable_cls=st.booleans(),
    attr_classes=st.integers(0, 3),
    improved_head=st.booleans(),
    iou_aware_head=st.booleans(),
    large_obj_ch_scale=st.floats(0, 3),
    cls_bottleneck_ratio=st.floats(-1, 2),
    score_mode=st.sampled_from((None, *MODES)),
    anchors=st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=9).map(tuple),
)


@given(configs)
def test_options_survive_json(config: UltraTinyODConfig) -> None:
    import json

    assert parse_config(json.loads(json.dumps(config.options())), "test") == config


@given(configs)
def test_derived_numbers(config: UltraTinyODConfig) -> None:
    assert config.raw_channels % config.anchor_count == 0
    assert 8 <= config.cls_channels <= max(8, config.feature_channels)
    assert config.large_obj_channels >= 1
    assert config.has_quality == ("quality" in config.map_names)
    assert ("cls" in config.map_names) == (not config.disable_cls)
    assert not (config.disable_cls and config.attr_count)
    needed = config.maps_for()
    assert needed[0] == "box"
    assert len(needed) > 1, "a score needs at least one factor"
    assert [name for name in config.map_names if name in needed] == list(needed)


@pytest.mark.parametrize(
    ("options", "mode", "maps"),
    [
        ({}, "obj_quality_cls", ("box", "obj", "cls")),
        ({"improved_head": True}, "obj_quality_cls", ("box", "obj", "quality", "cls")),
        ({"iou_aware_head": True}, "quality_cls", ("box", "quality", "cls")),
        ({"iou_aware_head": True, "disable_cls": True}, "quality", ("box", "quality")),
        ({"improved_head": True, "disable_cls": True}, "obj_quality", ("box", "obj", "quality")),
        ({"disable_cls": True}, "obj_quality", ("box", "obj")),
        ({"score_mode": "quality_cls"}, "quality_cls", ("box", "obj", "cls")),
        ({"score_mode": "quality"}, "quality", ("box", "obj")),
        ({"score_mode": "cls"}, "cls", ("box", "cls")),
        ({"score_mode": "cls", "disable_cls": True}, "obj", ("box", "obj")),
        ({"score_mode": "obj_cls", "iou_aware_head": True}, "obj_cls", ("box", "obj", "cls")),
        ({"score_mode": "obj", "iou_aware_head": True}, "obj", ("box", "obj")),
    ],
)
def test_score_modes(options: dict[str, object], mode: str, maps: tuple[str, ...]) -> None:
    config = UltraTinyODConfig(**options)
    assert config.resolved_score_mode == mode
    assert config.maps_for() == maps


def test_another_mode_than_the_configured() -> None:
    config = UltraTinyODConfig(iou_aware_head=True)
    assert config.maps_for("obj_quality_cls") == ("box", "obj", "quality", "cls")
    assert config.maps_for("quality") == ("box", "quality")


@pytest.mark.parametrize(
    "options",
    [
        {"wdith": 16},
        {"width": "16"},
        {"width": 0},
        {"out_stride": 32},
        {"activation": "gelu"},
        {"quant_arch": 12},
        {"score_mode": "best"},
        {"anchors": ()},
        {"anchors": ((0.1, -0.1),)},
        {"anchors": ((float("nan"), 0.1),)},
        {"anchors": ((0.1,),)},
        {"quality_power": 0.0},
        {"w_bits": 4, "highbit_quant_target": "head"},
        {"lowbit_quant_target": "head", "highbit_quant_target": "both"},
    ],
)
def test_mistakes_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UltraTinyODConfig(**options)
    with pytest.raises(ConfigError, match="^recipe.yaml: ") as caught:
        parse_config(options, "recipe.yaml")
    assert "\n" not in str(caught.value)


def test_the_error_names_the_key_and_may_be_of_another_kind() -> None:
    with pytest.raises(ModelError, match="a.pt: option quant_arch: "):
        parse_config({"quant_arch": -1}, "a.pt", ModelError)


def test_aliases() -> None:
    assert UltraTinyODConfig(activation="swish").activation == "silu"
    assert (
        UltraTinyODConfig(sppf_scale="1x1").sppf_scale == UltraTinyODConfig(sppf_scale="conv1x1").sppf_scale == "conv"
    )


@pytest.mark.parametrize(
    ("options", "backbone", "head"),
    [
        ({}, Bits(), Bits()),
        ({"w_bits": 4, "a_bits": 5}, Bits(4, 5), Bits(4, 5)),
        ({"w_bits": 4, "a_bits": 4, "quant_target": "head"}, Bits(), Bits(4, 4)),
        ({"w_bits": 4, "quant_target": "head", "lowbit_quant_target": "backbone"}, Bits(4, 0), Bits()),
        ({"w_bits": 4, "a_bits": 4, "lowbit_w_bits": 2, "lowbit_a_bits": 3}, Bits(2, 3), Bits(2, 3)),
        ({"w_bits": 4, "quant_target": "backbone", "highbit_quant_target": "head"}, Bits(4, 0), Bits(8, 8)),
        ({"quant_target": "none", "highbit_quant_target": "both", "highbit_a_bits": 6}, Bits(8, 6), Bits(8, 6)),
    ],
)  # fmt: skip
def test_quantization_regions(options: dict[str, object], backbone: Bits, head: Bits) -> None:
    config = UltraTinyODConfig(**options)
    assert (config.bits("backbone"), config.bits("head")) == (backbone, head)
    assert config.rounds_activations == (max(backbone.activation, head.activation) >= 2)


def test_the_tables_need_no_torch() -> None:
    code = "import sys, uhd.models; uhd.models.variants_config('R'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
