"""What the checker and the oracle refuse, and arithmetic on graphs made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from support.hand_model import activation, constant, conv_model, model, with_node, with_tensor
from uhd.errors import ModelError
from uhd.espdl import oracle
from uhd.espdl.check import check_nodes
from uhd.espdl.model import EspdlModel, Node

W = np.ones((2, 1, 1, 3), np.int8)


def one(
    op: str, names: tuple[str, ...], tensors: list, output: tuple[int, ...], bits: int = 8, **attributes: object
) -> EspdlModel:  # type: ignore[type-arg]
    """A model of a single node with output "y" at exponent 0."""
    node = Node(f"/n/{op}", op, names, ("y",), {"quant_type": f"S{bits}", **attributes}, bits)
    inputs = tuple(t.name for t in tensors if t.data is None)
    return model([node], [*tensors, activation("y", output, 0, bits)], inputs, ("y",))


def run_one(graph: EspdlModel, **inputs: list[int]) -> list[int]:
    check_nodes(graph)
    arrays = {n: np.array(v).reshape(graph.tensors[n].shape) for n, v in inputs.items()}
    return [int(v) for v in oracle.run(graph, arrays)["y"].reshape(-1)]


def test_sound_models_pass() -> None:
    check_nodes(conv_model(W))
    check_nodes(conv_model(np.ones((1, 3, 3, 4), np.int8), np.zeros(4, np.int32), group=4))


@pytest.mark.parametrize(
    ("graph", "complaint"),
    [
        (with_node(conv_model(W), 0, attributes={"group": 2}), "in 2 groups on input"),
        (with_node(conv_model(W), 0, attributes={"strides": [0, 1]}), "attribute strides is \\[0, 1\\]"),
        (with_node(conv_model(W), 0, attributes={"strides": [2, 2]}), "the file says \\(1, 4, 4, 2\\)"),
        (with_node(conv_model(W), 0, attributes={"pads": [0, 0]}), "attribute pads is"),
        (with_node(conv_model(W), 0, attributes={"kernel_shape": [3, 3]}), "kernel \\(3, 3\\) with filter"),
        (with_node(conv_model(W), 0, attributes={"activation": "Gelu"}), "has activation 'Gelu'"),
        (with_node(conv_model(W), 0, attributes={"group": "one"}), "attribute group is one"),
        (with_node(conv_model(W), 0, inputs=("x",)), "lacks an input"),
        (with_node(conv_model(W), 0, inputs=("x", "")), "lacks an input"),
        (with_node(conv_model(W), 0, inputs=("x", "nowhere")), "reads 'nowhere' before anything makes it"),
        (with_node(conv_model(W), 0, outputs=("x",)), "writes 'x', which is made elsewhere"),
        (with_node(conv_model(W), 0, outputs=()), "lacks an input or output"),
        (with_node(conv_model(W), 0, bits=16), "computes int16 into int8"),
        (with_tensor(conv_model(W), "x", dtype="float32"), "computes int8 from float32 'x'"),
        (with_tensor(conv_model(W), "x", dtype="int32"), "computes int8 from int32 'x'"),
        (conv_model(W.astype(np.float32)), "computes int8 from float32"),
        (conv_model(W, np.zeros(3, np.int32)), "has a bias \\(3,\\) int32 for 2 channels"),
        (conv_model(W, np.zeros(2, np.int64)), "has a bias \\(2,\\) int64"),
        (with_tensor(conv_model(W), "y", exponents=(1, 2)), "'y' has 2 exponents"),
        (with_tensor(conv_model(W), "x", exponents=(1, 2)), "graph input 'x' has no"),
        (model([], [activation("x", (1,), 0)], ("x",), ("z",)), "output 'z' is never made"),
        (one("MaxPool", ("x",), [activation("x", (1, 4), 0)], (1, 4), kernel_shape=[1, 1]), "pools \\(1, 4\\)"),
        (
            one("ReduceMean", ("x", "a"), [activation("x", (1, 4), 0), constant("a", np.array([2]))], (1, 4)),
            "axes \\[2\\]",
        ),
    ],
)
def test_inconsistent_graphs_are_refused(graph: EspdlModel, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        check_nodes(graph)
    assert "; " in str(caught.value)


def test_constants_of_one_value_a_channel_name_the_remedy() -> None:
    tensors = [activation("x", (1, 2, 2, 3), 0), constant("k", np.ones((1, 3, 1, 1), np.int8))]
    with pytest.raises(ModelError, match="do not broadcast; fold constants"):
        check_nodes(one("Mul", ("x", "k"), tensors, (1, 2, 2, 3)))


def test_convolution_by_hand() -> None:
    """(1*10 + 2*10 + 3*10) * 2^-14 + bias, to 2^-7: round(60/128 + ...) with ties up."""
    weight = np.full((2, 1, 1, 3), 10, np.int8)
    graph = conv_model(weight, np.array([4, -124], np.int32), size=(1, 1))
    check_nodes(graph)
    assert oracle.run(graph, {"x": np.array([[[1, 2, 3]]])})["y"].reshape(-1).tolist() == [1, 0]
    assert oracle.run(graph, {"x": np.array([[[127, 127, 127]]])})["y"].reshape(-1).tolist() == [30, 29]


def test_fused_relu_clamps_after_rounding() -> None:
    weight = np.array([[[[-64]]], [[[64]]]], np.int8)
    graph = conv_model(weight, size=(1, 1), activation_name="Relu", exponents=(-7, -7, -7))
    assert oracle.run(graph, {"x": np.array([[[3]]])})["y"].reshape(-1).tolist() == [0, 2]


def test_add_saturates_and_insists_on_one_exponent() -> None:
    tensors = [activation("a", (1, 4), 0), activation("b", (1, 4), 0)]
    assert run_one(one("Add", ("a", "b"), tensors, (1, 4)), a=[100, -100, 5, 0], b=[100, -100, -7, 0]) == [
        127,
        -128,
        -2,
        0,
    ]
    assert run_one(one("Sub", ("a", "b"), tensors, (1, 4)), a=[100, -100, 5, 0], b=[-100, 100, 7, 0]) == [
        127,
        -128,
        -2,
        0,
    ]
    askew = with_tensor(one("Add", ("a", "b"), tensors, (1, 4)), "b", exponents=(-1,))
    with pytest.raises(ModelError, match="unaligned exponents \\[-1, 0, 0\\]; quantize again"):
        run_one(askew, a=[0] * 4, b=[0] * 4)


def test_bias_at_another_exponent_is_refused() -> None:
    askew = with_tensor(conv_model(W, np.zeros(2, np.int32)), "b", exponents=(-13,))
    with pytest.raises(ModelError, match="the bias has exponent -13, its products -14"):
        oracle.run(askew, {"x": np.zeros((4, 4, 3), np.int8)})


def test_bias_and_weight_exponents_may_be_one_or_one_a_channel() -> None:
    graph = conv_model(W, np.array([100, 200], np.int32), size=(1, 1))
    x = {"x": np.ones((1, 1, 3), np.int8)}
    expected = oracle.run(graph, x)["y"]
    for name, exponent in (("b", -14), ("w", -7)):
        spread = with_tensor(graph, name, exponents=(exponent, exponent))
        check_nodes(spread)
        assert np.array_equal(oracle.run(spread, x)["y"], expected)
    both = with_tensor(with_tensor(graph, "w", exponents=(-7, -8)), "b", exponents=(-14, -15))
    assert oracle.run(both, x)["y"].reshape(-1).tolist() == [1, 1]  # (3 + 100) / 2**7, (3 + 200) / 2**8


def test_operands_and_tables_have_one_exponent() -> None:
    tensors = [activation("x", (1, 2), 0), constant("k", np.ones(2, np.int8), 0, 1)]
    with pytest.raises(ModelError, match="'k' has 2 exponents"):
        check_nodes(one("Mul", ("x", "k"), tensors, (1, 2)))
    table = [activation("x", (1, 2), 0), constant("t", np.zeros(256, np.int8), 0, 1)]
    with pytest.raises(ModelError, match="'t' has 2 exponents"):
        check_nodes(one("Tanh", ("x",), table, (1, 2), lut="t"))


def test_mul_broadcasts_and_shifts() -> None:
    graph = one("Mul", ("a", "g"), [activation("a", (1, 1, 2, 2), -3), activation("g", (1, 1, 1, 2), -4)], (1, 1, 2, 2))
    assert run_one(graph, a=[64, 64, -64, 100], g=[1, 3]) == [1, 2, 0, 2]  # /128, ties up: -0.5 -> 0, 2.34 -> 2


def test_requantize_between_widths() -> None:
    widen = with_tensor(
        one("RequantizeLinear", ("x",), [activation("x", (1, 3), -3)], (1, 3), 16), "y", exponents=(-11,)
    )
    assert run_one(widen, x=[1, -128, 127]) == [256, -32768, 32512]
    narrow = one("RequantizeLinear", ("x",), [activation("x", (1, 4), -8, 16)], (1, 4))
    assert run_one(narrow, x=[128, 127, -128, 32767]) == [1, 0, 0, 127]


def test_int16_relu_and_clip_compute() -> None:
    x = [activation("x", (1, 4), -1, 16)]
    assert run_one(one("Relu", ("x",), x, (1, 4), 16), x=[-9, 9, 8, 1]) == [0, 5, 4, 1]
    limits = [constant("lo", np.array(-2, np.int16), -1), constant("hi", np.array(3, np.int16))]
    graph = one("Clip", ("x", "lo", "hi"), x + limits, (1, 4), 16)
    assert run_one(graph, x=[-9, 9, 4, 1]) == [-1, 3, 2, 1]


def test_int16_sigmoid_follows_the_real_function() -> None:
    graph = with_tensor(one("Sigmoid", ("x",), [activation("x", (1, 3), -8, 16)], (1, 3), 16), "y", exponents=(-15,))
    assert run_one(graph, x=[0, -32768, 256]) == [16384, 0, round(32768 / (1 + np.exp(-1)))]


@pytest.mark.parametrize(
    ("op", "attributes", "bits", "complaint"),
    [
        ("Softmax", {}, 8, "operator Softmax \\(S8\\) is not supported; supported in S8 and S16: Add"),
        ("Relu", {"quant_type": "F32"}, 32, "operator Relu \\(F32\\) is not supported"),
        ("Relu", {"quant_type": "W8A16"}, 8, "operator Relu \\(W8A16\\) is not supported"),
        ("Resize", {"mode": "linear"}, 8, "Resize linear/half_pixel/round_prefer_floor; use nearest"),
        ("Sigmoid", {"lut": "missing"}, 8, "no table 'missing' that fits int8"),
        ("Elu", {}, 8, "no table ''"),
        ("Transpose", {"perm": [0, 0]}, 8, "perm \\[0, 0\\] of 2 dimensions"),
        ("Slice", {}, 8, "has no starts or ends"),
        ("Split", {"axis": 5}, 8, "axis 5 of 2 dimensions"),
        ("Concat", {"axis": 5}, 8, "axis 5 of 2 dimensions"),
    ],
)
def test_what_the_oracle_cannot_run_is_refused(
    op: str, attributes: dict[str, object], bits: int, complaint: str
) -> None:
    graph = with_node(one(op, ("x",), [activation("x", (1, 2), 0)], (1, 2)), 0, bits=bits, attributes=attributes)
    with pytest.raises(ModelError, match=complaint):
        oracle.run(graph, {"x": np.zeros((1, 2), np.int8)})
