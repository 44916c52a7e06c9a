"""Findings on hand-made models: each rule fires on its fault, and only on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.quantize.lints import Finding, check, sort_findings


def activation(name: str, channels: int = 16, exponent: int = -5, dtype: str = "int8", size: int = 8) -> Tensor:
    return Tensor(name, (1, size, size, channels), dtype, (exponent,))


def sound_model(target: str = "esp32s3") -> EspdlModel:
    """input -> Conv -> Add with itself -> MaxPool -> Sigmoid -> Resize, without any fault."""
    weight = np.ones((16, 1, 1, 16), np.int8)
    tensors = [
        activation("x"), activation("a"), activation("b"), activation("p"), activation("s", exponent=-7),
        activation("r", exponent=-7, size=16),
        Tensor("w", weight.shape, "int8", (-6,), weight), Tensor("lut", (256,), "int8", (-7,), np.zeros(256, np.int8)),
    ]  # fmt: skip
    nodes = (
        Node("/conv", "Conv", ("x", "w"), ("a",), {"kernel_shape": [1, 1], "quant_type": "S8"}),
        Node("/add", "Add", ("a", "a"), ("b",), {"quant_type": "S8"}),
        Node("/pool", "MaxPool", ("b",), ("p",), {"kernel_shape": [5, 5], "quant_type": "S8"}),
        Node("/gate", "Sigmoid", ("p",), ("s",), {"lut": "lut", "quant_type": "S8"}),
        Node("/resize", "Resize", ("s",), ("r",), {"quant_type": "S8"}),
    )
    return EspdlModel("m", target, nodes, {t.name: t for t in tensors}, ("x",), ("r",), "", 0)


def with_tensor(model: EspdlModel, name: str, **changes: object) -> EspdlModel:
    return replace(model, tensors={**model.tensors, name: replace(model.tensors[name], **changes)})


def with_node(model: EspdlModel, name: str, **changes: object) -> EspdlModel:
    return replace(model, nodes=tuple(replace(n, **changes) if n.name == name else n for n in model.nodes))


def test_a_sound_model_has_no_findings() -> None:
    for target in ("c", "esp32s3", "esp32p4"):
        assert check(sound_model(target)) == []


@pytest.mark.parametrize(
    ("rule", "operator", "severity", "fault"),
    [
        ("resize-int16", "/resize", "error", lambda m: with_node(m, "/resize", bits=16)),
        ("resize-int16", "/resize", "error", lambda m: with_tensor(m, "r", dtype="int16")),
        ("w8a16", "/conv", "error", lambda m: with_node(m, "/conv", attributes={"quant_type": "W8A16"}, bits=16)),
        ("alignment", "/add", "error", lambda m: with_tensor(m, "a", exponents=(-4,))),
        ("alignment", "/pool", "error", lambda m: with_tensor(m, "p", exponents=(-4,))),
        ("alignment", "/add", "error", lambda m: with_tensor(m, "a", dtype="int16")),
        ("negative-shift", "/conv", "error", lambda m: with_tensor(m, "x", exponents=(6,))),
        ("float", "/conv", "warning", lambda m: with_node(m, "/conv", attributes={"quant_type": "F32"}, bits=32)),
        ("float", "/conv", "warning", lambda m: with_node(m, "/conv", op="DequantizeLinear")),
        ("table-int16", "/gate", "warning", lambda m: with_node(m, "/gate", bits=16)),
        ("table-missing", "/gate", "warning", lambda m: with_node(m, "/gate", attributes={"quant_type": "S8"})),
        ("pool-window", "/pool", "warning", lambda m: with_tensor(m, "b", shape=(1, 4, 4, 16))),
        ("filter-size", "/conv", "note", lambda m: with_tensor(m, "w", shape=(256, 1, 1, 256))),
        ("lanes", "/conv", "note", lambda m: with_tensor(m, "x", shape=(1, 8, 8, 3))),
    ],
)
def test_each_rule_fires_on_its_fault(rule: str, operator: str, severity: str, fault: object) -> None:
    assert callable(fault)
    found = [finding for finding in check(fault(sound_model())) if finding.rule == rule]
    assert [(finding.operator, finding.severity) for finding in found] == [(operator, severity)]
    assert found[0].message and found[0].way_out


def test_layout_of_another_target_is_an_error() -> None:
    found = check(sound_model("esp32s3"), target="c")
    assert [(finding.rule, finding.severity) for finding in found] == [("layout", "error")]
    assert "--target c" in found[0].way_out


def test_negative_shift_is_harmless_in_portable_code() -> None:
    model = with_tensor(sound_model("c"), "x", exponents=(6,))
    assert [f.severity for f in check(model) if f.rule == "negative-shift"] == ["warning"]


def test_negative_shift_looks_at_the_worst_channel() -> None:
    """P4 weights have an exponent per channel: -5 (out) - -5 (in) - 1 < 0 in one channel is enough."""
    exponents = tuple([-6] * 15 + [1])
    model = with_tensor(sound_model("esp32p4"), "w", exponents=exponents)
    assert [f.operator for f in check(model) if f.rule == "negative-shift"] == ["/conv"]


def test_speed_notes_are_for_chips_only() -> None:
    model = with_tensor(with_tensor(sound_model("c"), "w", shape=(256, 1, 1, 256)), "x", shape=(1, 8, 8, 3))
    assert check(model) == []


def test_int16_needs_multiples_of_eight_channels() -> None:
    model = with_tensor(with_tensor(sound_model(), "x", shape=(1, 8, 8, 24)), "a", shape=(1, 8, 8, 24))
    assert [f.rule for f in check(model)] == ["lanes"]
    assert [f for f in check(with_node(model, "/conv", bits=16)) if f.rule == "lanes"] == []


def test_errors_come_first_and_order_is_kept() -> None:
    findings = [Finding(s, str(i), "m", "w") for i, s in enumerate(("note", "warning", "error", "note"))]  # type: ignore[arg-type]
    assert [f.operator for f in sort_findings(findings)] == ["2", "1", "0", "3"]


def test_a_finding_reads_as_one_line() -> None:
    text = str(Finding("error", "/conv", "is wrong", "do better"))
    assert text == "error: /conv: is wrong; do better"
    assert str(Finding("note", "", "is slow", "wait")) == "note: is slow; wait"
