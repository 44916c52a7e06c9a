"""Choosing int16 operators by name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uhd.errors import ConfigError
from uhd.quantize.patterns import Operator, compile_pattern, nearest_names, select
from uhd.quantize.presets import Preset

GRAPH = (
    Operator("/stem/conv/Conv", "Conv", ("/stem/act/Relu",)),
    Operator("/stem/act/Relu", "Relu", ("/depthwiseconv/dw/conv/Conv", "/skip/conv/Conv")),
    Operator("/depthwiseconv/dw/conv/Conv", "Conv", ("/dw/act/Relu",)),
    Operator("/dw/act/Relu", "Relu", ("/Add",)),
    Operator("/skip/conv/Conv", "Conv", ("/Add",)),
    Operator("/Add", "Add", ("/Resize",)),
    Operator("/Resize", "Resize", ("/split/conv/Conv",)),
    Operator("/split/conv/Conv", "Conv", ("/split/Relu_a", "/split/Relu_b")),
    Operator("/split/Relu_a", "Relu", ("/gate/Sigmoid",)),
    Operator("/split/Relu_b", "Relu", ("/box_out/Conv",)),
    Operator("/gate/Sigmoid", "Sigmoid", ("/box_out/Conv",)),
    Operator("/box_out/Conv", "Conv", ()),
)
NAMES = [operator.name for operator in GRAPH]


def test_search_finds_a_pattern_anywhere_in_a_name() -> None:
    assert select(GRAPH, ["box_out"]).int16 == ("/box_out/Conv",)
    assert select(GRAPH, ["^/skip"]).int16 == ("/skip/conv/Conv",)


def test_a_fused_relu_follows_its_convolution_and_the_other_way_round() -> None:
    pair = ("/stem/conv/Conv", "/stem/act/Relu")
    assert select(GRAPH, ["/stem/conv/Conv"]).int16 == pair
    assert select(GRAPH, ["/stem/act/Relu"]).int16 == pair


def test_relus_that_are_not_fused_stay_apart() -> None:
    assert select(GRAPH, ["/split/conv"]).int16 == ("/split/conv/Conv",)
    assert select(GRAPH, ["/Relu_a"]).int16 == ("/split/Relu_a",)


def test_result_is_in_graph_order_whatever_the_order_of_patterns() -> None:
    chosen = select(GRAPH, ["box_out", "/Add", "dw/conv", "stem"]).int16
    assert list(chosen) == sorted(chosen, key=NAMES.index)


def test_a_pattern_without_match_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="matches none of 12 operators") as caught:
        select(GRAPH, ["box_out", "/box_otu/Conv"])
    assert "/box_out/Conv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["(", "[a", "*x", ""])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["/Resize", ".", "^/R"])
def test_an_int16_resize_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"operator /Resize cannot be int16.*narrow the pattern"):
        select(GRAPH, [pattern])


def test_sixteen_bits_leave_resize_and_tables_at_int8() -> None:
    chosen = select(GRAPH, [], bits=16)
    assert chosen.int8 == ("/Resize", "/gate/Sigmoid")
    assert set(chosen.int16) == set(NAMES) - {"/Resize", "/gate/Sigmoid"}
    assert "/Resize" in chosen.notes[0]


def test_sixteen_bits_and_patterns_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="no meaning with 16 bits"):
        select(GRAPH, ["box_out"], bits=16)


def test_preset_entries_of_a_missing_branch_are_dropped_with_a_note() -> None:
    preset = Preset("T", "test", ("/box_out/Conv", "/obj_conv/dw/conv/Conv"))
    chosen = select(GRAPH, [], preset)
    assert chosen.int16 == ("/box_out/Conv",)
    assert chosen.notes == ("preset T: the model has no /obj_conv/dw/conv/Conv",)


def test_a_preset_for_another_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="no operator of preset T is in this model"):
        select(GRAPH, [], Preset("T", "test", ("/elsewhere/Conv",)))


def test_preset_and_patterns_add_up() -> None:
    chosen = select(GRAPH, ["/skip"], Preset("T", "test", ("/box_out/Conv",)))
    assert chosen.int16 == ("/skip/conv/Conv", "/box_out/Conv")


def test_nothing_asked_nothing_chosen() -> None:
    assert select(GRAPH, []).int16 == ()
    assert select(GRAPH, [], Preset("speed", "test")).int16 == ()


@given(st.lists(st.sampled_from([name for name in NAMES if "Resize" not in name]), min_size=1, unique=True))
def test_literal_names_choose_themselves_and_their_fusion_partners(names: list[str]) -> None:
    chosen = set(select(GRAPH, [f"^{re.escape(name)}$" for name in names]).int16)
    assert set(names) <= chosen
    partners = {"/stem/conv/Conv": "/stem/act/Relu", "/depthwiseconv/dw/conv/Conv": "/dw/act/Relu"}
    both = {**partners, **{relu: conv for conv, relu in partners.items()}}
    assert chosen == set(names) | {both[name] for name in names if name in both}


@given(st.text(min_size=1, max_size=12))
def test_nearest_names_are_always_names(text: str) -> None:
    found = nearest_names(text, NAMES)
    assert 1 <= len(found) <= 3
    assert set(found) <= set(NAMES)
