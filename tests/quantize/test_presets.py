"""The published int16 lists as data."""

from __future__ import annotations

import json
import re

import pytest

from support.shared import shared_dir
from uhd.errors import ConfigError
from uhd.quantize.presets import PRESETS, resolve_preset
from uhd.variants import VARIANTS


def test_every_variant_has_a_speed_preset_without_int16() -> None:
    for letter in VARIANTS:
        assert PRESETS[f"{letter}-speed"].patterns == ()
    assert PRESETS["int8"].patterns == ()


def test_counts_are_the_published_ones() -> None:
    counts = {name: len(preset.operators) for name, preset in PRESETS.items() if preset.operators}
    assert counts == {
        "R-precision": 22, "R-distill": 4, "Y-precision": 5, "Z-precision": 7, "A-precision": 11, "F-precision": 7,
        "P-precision": 6, "N-precision": 5, "T-precision": 3,
    }  # fmt: skip
    for preset in PRESETS.values():
        assert len(set(preset.operators)) == len(preset.operators), preset.name


def test_patterns_match_both_kinds_of_graph_and_only_whole_names() -> None:
    pattern = next(p for p in PRESETS["A-precision"].patterns if "large_obj_down" in p)
    assert re.search(pattern, "/depthwiseconv/large_obj_down/large_obj_down.0/Conv")
    assert re.search(pattern, "/depthwiseconv/model/head/large_obj_down/large_obj_down.0/Conv")
    assert not re.search(pattern, "/depthwiseconv/large_obj_down/large_obj_down.0/Conv_1")
    assert not re.search(pattern, "/large_obj_down/large_obj_down.00/Conv")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.operators])
def test_every_entry_names_an_operator_of_the_published_graph(name: str) -> None:
    variants = json.loads(shared_dir("spec", "variants.json").read_text())
    nodes = variants["families"]["current_yuv422"]["all_nodes"]
    whole = [node[1] for node in nodes["full_raw_wrapper"]]
    parts = [node[1] for node in nodes["static_nopost_nocat"]]
    for entry, pattern in zip(PRESETS[name].operators, PRESETS[name].patterns, strict=True):
        assert len([node for node in whole if re.search(pattern, node)]) == 1, entry
        expected = 0 if entry.startswith("/obj_conv") else 1
        assert len([node for node in parts if re.search(pattern, node)]) == expected, entry


def test_the_lists_are_those_of_the_published_commands() -> None:
    """Compare with the commands themselves: same sets once prefixes are taken off."""
    text = shared_dir("spec", "readme-commands.md").read_text()
    letters = {str(variant.width): letter for letter, variant in VARIANTS.items()}
    published: dict[str, set[str]] = {}
    for block in text.split("uv run python ")[1:]:
        entries = re.findall(r"--int16-op-pattern \"?([^\s\"]+)", block)
        width = re.search(r"_w(\d+)_", block)
        if not entries or not width:
            continue
        letter = letters[width.group(1)]
        kind = "distill" if letter == "R" and "distill" in block else "precision"
        published[f"{letter}-{kind}"] = {re.sub(r"^(/depthwiseconv)?(/model)?(/head)?", "", e) for e in entries}
    assert len(published) == 9
    for name, entries in published.items():
        assert set(PRESETS[name].operators) == entries, name


def test_names_resolve_in_full_and_in_short() -> None:
    assert resolve_preset("R-precision").name == "R-precision"
    assert resolve_preset("r-PRECISION", "Y").name == "R-precision"
    assert resolve_preset("precision", "z").name == "Z-precision"
    assert resolve_preset("speed", "N").name == "N-speed"
    assert resolve_preset("speed").name == "int8"
    assert resolve_preset("int8", "R").name == "int8"


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("precision", None, "depends on the variant"),
        ("precision", "L", "no precision list is published for variant L"),
        ("fast", "R", "unknown preset 'fast'"),
        ("precision", "Q", "unknown variant 'Q'"),
        ("X-precision", None, "unknown preset"),
    ],
)
def test_wrong_names_are_one_line(name: str, variant: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_preset(name, variant)
    assert "\n" not in str(caught.value)
