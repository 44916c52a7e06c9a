"""Variants and targets are rows of one table, and unknown names are refused with the known ones."""

from __future__ import annotations

import pytest

from uhd.errors import ConfigError, SdkMissingError, UhdError
from uhd.targets import BUILD_TARGETS, TARGETS, quantization_target
from uhd.variants import REFERENCE_ANCHORS, VARIANTS, get_variant


def test_letters_in_order_of_width() -> None:
    assert "".join(VARIANTS) == "RYZAFPNTSCML"
    widths = [variant.width for variant in VARIANTS.values()]
    assert widths == sorted(set(widths))
    assert get_variant("r").width == 16


def test_anchors_ascend_in_area() -> None:
    areas = [w * h for w, h in REFERENCE_ANCHORS]
    assert len(areas) == 8 and areas == sorted(areas)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="R Y Z"):
        get_variant("Q")
    with pytest.raises(ConfigError, match="esp32s3"):
        quantization_target("esp8266")


def test_build_targets_have_an_arithmetic() -> None:
    assert quantization_target("qemu") is TARGETS["c"]
    for name in BUILD_TARGETS:
        assert quantization_target(name).rounding in ("half_up", "half_even")


def test_exit_codes() -> None:
    assert UhdError("a").exit_code == 2
    assert SdkMissingError("a").exit_code == 3
    assert str(UhdError("what", hint="do this")) == "what; do this"
