"""What is read from a quantized model before training: which tensors share a grid, and what is refused."""

from __future__ import annotations

import pytest

from support.made_models import Maker
from uhd.errors import ModelError
from uhd.quantize.trained import own_key
from uhd.train.qat.plan import Layer, Plan, make_plan, weight_key


def layers(maker: Maker) -> dict[str, Layer]:
    return {node.name: Layer(f"conv{i}", None) for i, node in enumerate(maker.nodes) if node.op == "Conv"}


def block() -> tuple[Maker, Plan, list[str]]:
    """A residual block, pooled, joined and enlarged; one operand of the sum is requantized."""
    maker = Maker(1)
    x = maker.input(8, 8, 4)
    a, b = maker.conv(x, 4, shift=6), maker.conv(x, 4, shift=7)
    lowered = maker.requantize(b, -1)
    total = maker.same("Add", [a, lowered])
    joined = maker.concat([total, maker.pool(total, 3, 1, 1)])
    large = maker.resize(joined, 16, 16)
    out = maker.conv(large, 2)
    return maker, make_plan(maker.model(out), layers(maker)), [x, a, b, lowered, total, joined, large, out]


def test_copied_integers_share_a_grid_and_requantized_ones_do_not() -> None:
    _, plan, (x, a, b, lowered, total, joined, large, out) = block()
    shared = {plan.grid_of[name] for name in (a, lowered, total, joined, large)}
    assert len(shared) == 1
    assert len({plan.grid_of[x], plan.grid_of[b], plan.grid_of[out], *shared}) == 4 == len(plan.bits)
    assert [step.grid is None for step in plan.steps] == [False, False, False, False, True, True, True, False]


def test_keys_survive_an_export() -> None:
    maker, plan, (x, a, b, lowered, total, *_) = block()
    adder = next(node.name for node in maker.nodes if node.op == "Add")
    assert lowered not in plan.keys and plan.keys[own_key(adder, 1)] == plan.grid_of[lowered]
    assert plan.keys["input"] == plan.grid_of[x]  # whatever the input is called
    assert plan.keys[b] == plan.grid_of[b] and plan.keys[total] == plan.keys[a]
    assert weight_key(plan.steps[0]) == own_key(maker.nodes[0].name, 1)


def test_only_what_is_asked_for_is_computed() -> None:
    _, plan, (_, _, b, lowered, total, *_) = block()
    assert [step.output for step in plan.needed([lowered])] == [b, lowered]
    assert len(plan.needed([total])) == 4
    assert plan.reader("conv0") == plan.reader("conv1") == plan.input


def test_exponents_of_filters_lie_in_one_table() -> None:
    maker = Maker(2, target="esp32p4")
    out = maker.conv(maker.conv(maker.input(4, 4, 3), 5), 2)
    plan = make_plan(maker.model(out), layers(maker))
    assert [step.span for step in plan.steps] == [(0, 5), (5, 7)] and plan.filters == 7


def refusal(kind: str) -> Maker:
    maker = Maker(3)
    x = maker.conv(maker.input(4, 4, 4), 4)
    if kind == "Mul":
        factor = maker.constant(maker.rng.integers(1, 5, (1, 1, 1, 4)).astype("int8"))
        maker.node("Mul", [x, factor], maker.shape(x), -7, name="/scale/Mul")
    elif kind == "Conv":
        maker.conv(x, 4)
    else:
        maker.node(kind, [x], maker.shape(x), -7, name=f"/odd/{kind}")
    return maker


@pytest.mark.parametrize("kind", ["Mul", "Conv", "Clip", "Transpose", "HardSwish"])
def test_what_cannot_be_trained_is_named(kind: str) -> None:
    maker = refusal(kind)
    known = layers(maker)
    if kind == "Conv":  # one that the quantizer made of constants
        del known[maker.nodes[-1].name]
    with pytest.raises(ModelError, match=f"operator {maker.nodes[-1].name}.*train without --qat"):
        make_plan(maker.model(maker.nodes[-1].outputs[0]), known)
