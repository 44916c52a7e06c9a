"""Figures of single layers against loops, NumPy and hand computation, on made models."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from support.float_twin import float_twin
from support.made_models import Maker, random_inputs
from uhd.espdl import kernels, oracle, shapes
from uhd.espdl.model import EspdlModel, Tensor
from uhd.explain.accuracy import layer_costs
from uhd.explain.explanation import _overflow
from uhd.explain.floating import FloatModel, as_planes
from uhd.explain.study import Accumulator, LayerStudy, Picture, headroom, study
from uhd.explain.tally import MOST_DB, Counts, Noise, used_bits
from uhd.manifest import ModelManifest


def pictures(model: EspdlModel, count: int, seed: int = 0, kind: str = "random") -> list[Picture]:
    """Inputs on the model's grid, so that both models get the same."""
    rng = np.random.default_rng(seed)
    made = [random_inputs(model, rng, kind)[model.inputs[0]] for _ in range(count)]
    exponent = model.tensors[model.inputs[0]].exponent
    return [Picture(integers, as_planes(integers, exponent).astype(np.float32)) for integers in made]


def chain(seed: int = 1, target: str = "esp32s3") -> EspdlModel:
    """Convolutions of all kinds one behind another."""
    maker = Maker(seed, target)
    x = maker.conv(maker.input(8, 8, 3), 8, (3, 3), pads=(1, 1, 1, 1), shift=9)
    x = maker.conv(x, 8, (3, 3), pads=(1, 1, 1, 1), group=8)
    y = maker.conv(x, 8)
    return maker.model(maker.conv(y, 4, relu=False))


def by_name(layers: list[LayerStudy]) -> dict[str, LayerStudy]:
    return {item.layer.name: item for item in layers}


def test_ratio_of_a_layer_by_hand() -> None:
    """One 1x1 convolution of two channels into one, computed value by value."""
    maker = Maker(0, "c")
    source = maker.input(2, 2, 2, exponent=-4)
    weight = maker.constant(np.array([[[[3, -2]]]], np.int8), [-3])
    bias = maker.constant(np.array([5], np.int32), [-7])
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1,
                  "activation": "Relu"}  # fmt: skip
    model = maker.model(maker.node("Conv", [source, weight, bias], (1, 2, 2, 1), -3, attributes, name="/only/Conv"))
    integers = np.array([[[[10, 3], [-4, 9]], [[127, -128], [1, 1]]]], np.int8)
    signal = noise = 0.0
    for a, b in integers.reshape(-1, 2).tolist():
        exact = max(0.0, (3 * a - 2 * b + 5) / 128)
        rounded = min(127, max(0, math.floor(exact * 8 + 0.5))) / 8
        signal, noise = signal + exact**2, noise + (rounded - exact) ** 2
    picture = Picture(integers, as_planes(integers, -4).astype(np.float32))
    (layer,) = study(model, FloatModel(float_twin(model), model), [picture])
    assert noise > 0
    assert layer.sqnr == pytest.approx(10 * math.log10(signal / noise), abs=1e-9)
    assert layer.own_sqnr == pytest.approx(layer.sqnr, abs=1e-9), "the first layer has no noise but its own"
    assert layer.filter_sqnr == MOST_DB and layer.no_partner == ""
    assert layer.sums_sqnr == MOST_DB, "its filter and bias are exact, so only rounding adds noise"


def test_energies() -> None:
    noise = Noise()
    assert noise.db is None
    noise.add(np.array([3.0, 4.0]), np.array([3.0, 4.0]))
    assert noise.db == MOST_DB
    noise.add(np.array([0.0]), np.array([0.5]))
    assert noise.db == pytest.approx(20.0)  # 25 / 0.25


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["random", "ends"])
def test_ranges_are_those_of_the_oracle(bits: int, kind: str) -> None:
    maker = Maker(3, "esp32s3", bits)
    x = maker.conv(maker.input(6, 6, 4), 6, (3, 3), relu=False, shift=bits - 3)  # too few shifts: much saturates
    model = maker.model(maker.conv(x, 5))
    shown = pictures(model, 5, kind=kind)
    layers = study(model, None, shown)
    runs = [oracle.run(model, {model.inputs[0]: picture.integers}, keep_all=True) for picture in shown]
    ended = 0.0
    for node, layer in zip(model.nodes, layers, strict=True):
        values = np.concatenate([run[node.outputs[0]].reshape(-1) for run in runs])
        limits, spread = np.iinfo(values.dtype), layer.spread
        assert spread.count == values.size
        assert spread.at_lowest == np.mean(values == limits.min)
        assert spread.at_highest == np.mean(values == limits.max)
        assert (spread.lowest, spread.highest) == (values.min(), values.max())
        edges = np.linspace(int(limits.min), int(limits.max) + 1, 257)
        assert list(spread.histogram) == np.histogram(values, edges)[0].tolist()
        assert layer.sqnr is None and layer.no_partner == "no float model"
        ended += spread.at_lowest + spread.at_highest
    assert ended > 0.1, "nothing saturated, so nothing was tried"


@pytest.mark.parametrize(("ends", "bits"), [((0, 0), 1), ((0, 1), 2), ((-1, 0), 1), ((-128, 127), 8), ((0, 127), 8),
                                            ((-129, 0), 9), ((-3, 2), 3)])  # fmt: skip
def test_used_bits(ends: tuple[int, int], bits: int) -> None:
    assert used_bits(*ends) == bits
    assert -(1 << (bits - 1)) <= ends[0] and ends[1] < 1 << (bits - 1)


def test_counting_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no integers"):
        Counts("int8").spread()


def worsened(model: EspdlModel, name: str, by: int) -> EspdlModel:
    """``model`` with a filter whose exponents are ``by`` higher, its integers rounded to that; the bias follows."""
    (node,) = (node for node in model.nodes if node.name == name)
    tensors = dict(model.tensors)
    for place, tensor_name in enumerate(node.inputs[1:], start=1):
        old = tensors[tensor_name]
        assert old.data is not None
        data = np.floor(old.data / 2**by + 0.5).astype(old.data.dtype)
        tensors[tensor_name] = Tensor(old.name, old.shape, old.dtype, tuple(e + by for e in old.exponents), data)
        assert place < 3
    return dataclasses.replace(model, tensors=tensors)


@pytest.mark.parametrize("bad", [0, 1, 2, 3])
def test_a_layer_made_bad_comes_out_worst(bad: int) -> None:
    good = chain()
    name = good.nodes[bad].name
    floating = float_twin(good)
    clean = by_name(study(good, FloatModel(floating, good), pictures(good, 6)))
    model = worsened(good, name, 5)
    found = FloatModel(floating, model)
    layers = study(model, found, pictures(model, 6))
    own = {item.layer.name: item.own_sqnr for item in layers}
    assert min(own, key=lambda key: own[key] or 0.0) == name
    assert layers[bad].sums_sqnr == pytest.approx(own[name], abs=3.0), "the noise is that of the filter"
    filters = {item.layer.name: item.filter_sqnr for item in layers}
    assert min(filters, key=lambda key: filters[key] or 0.0) == name
    for before in layers[:bad]:
        assert before.sqnr == clean[before.layer.name].sqnr, "what runs before it is as it was"
    assert (layers[bad].sqnr or 0.0) < (clean[name].sqnr or 0.0) - 3
    costs = layer_costs(model, found, ModelManifest(name="made"), layers, pictures(model, 6), None)
    assert costs.floating is None and all(item.cost is None for item in layers)
    maps = {item.layer.name: item.maps_sqnr for item in layers}
    assert min(maps, key=lambda key: maps[key] or 0.0) == name


@pytest.mark.parametrize("target", ["c", "esp32s3", "esp32p4"])
def test_alone_in_integers_is_the_oracle_where_nothing_precedes(target: str) -> None:
    """The first layer's float inputs are on the grid, so it must come out as the oracle's integers, ties included."""
    maker = Maker(7, target)
    maker_input = maker.input(9, 7, 4)
    model = maker.model(maker.conv(maker_input, 8, (3, 3), strides=(2, 1), pads=(1, 0, 1, 2), shift=5, spread=0.03))
    floating = FloatModel(float_twin(model), model)
    (node,) = model.nodes
    session = floating.with_one(node)
    beside = floating.with_all_beside()
    for picture in pictures(model, 4, seed=2):
        integers = oracle.run(model, {model.inputs[0]: picture.integers})[node.outputs[0]]
        wanted = as_planes(integers, model.tensors[node.outputs[0]].exponent)
        assert np.array_equal(session.run(picture.planes)[node.outputs[0]], wanted)
        assert np.array_equal(beside.session.run(picture.planes)[beside.alone[node.outputs[0]]], wanted)


def test_sums_and_headroom() -> None:
    model = chain()
    shown = pictures(model, 3)
    layers = by_name(study(model, None, shown))
    most = dict.fromkeys(layers, 0)
    for picture in shown:
        made = oracle.run(model, {model.inputs[0]: picture.integers}, keep_all=True)
        made[model.inputs[0]] = picture.integers
        for node in model.nodes:
            weight, bias = (model.tensors[name].data for name in node.inputs[1:3])
            assert weight is not None and bias is not None
            group = node.attributes["group"]
            sums = kernels.conv_sums(made[node.inputs[0]], weight, shapes.window(node), group) + bias
            most[node.name] = max(most[node.name], int(np.abs(sums).max()))
    for name, layer in layers.items():
        sums_of = layer.accumulator
        assert sums_of is not None and sums_of.limit == 2**19 - 1
        assert sums_of.reached == most[name] <= sums_of.partial
        assert sums_of.reached <= sums_of.bound
        assert sums_of.reached_headroom == pytest.approx(math.log2((2**19 - 1) / most[name]))
    assert headroom(2**19 - 1, 2 ** (19 + 2)) == pytest.approx(-2, abs=1e-5)
    assert all(item.accumulator is None for item in study(chain(target="c"), None, shown)), "32 bits hold any sum"


def test_partners_and_why_there_is_none() -> None:
    maker = Maker(5)
    source = maker.input(8, 8, 4)
    first = maker.conv(source, 8)
    wide = maker.requantize(first, -6, bits=16)
    narrow = maker.requantize(wide, 6, bits=8)
    other = maker.conv(narrow, 8)
    last = maker.conv(other, 4, relu=False)
    model = maker.model(last)
    proto = float_twin(model)
    names = [node.name for node in model.nodes]
    for node in proto.graph.node:
        if node.name == names[3]:
            node.name = "renamed"
    found = FloatModel(proto, model)
    assert found.partners[other].tensor == other and found.partners[other].node is None, "by its tensor's name"
    assert [found.can_stand_alone(node) for node in model.nodes] == [True, False, False, False, True]
    for node in proto.graph.node:
        for names_of in (node.input, node.output):
            for place, name in enumerate(names_of):
                names_of[place] = "elsewhere" if name == other else name
    partners = FloatModel(proto, model).partners
    assert [partners[n.outputs[0]].tensor for n in model.nodes] == [first, first, first, "", last]
    assert partners[other].reason == "no float operator or tensor of this name"
    assert partners[wide].node is None and partners[first].node == names[0]
    layers = by_name(study(model, FloatModel(proto, model), pictures(model, 2)))
    assert layers[names[3]].no_partner == "no float operator or tensor of this name" and layers[names[3]].sqnr is None
    assert layers[names[2]].sqnr == pytest.approx(layers[names[0]].sqnr or 0), "wider and back loses nothing"
    small = Maker(5)
    lone = small.model(small.conv(small.input(8, 8, 4), 6))
    larger = Maker(5)
    twin = float_twin(larger.model(larger.conv(larger.input(8, 8, 4), 8)))
    reason = FloatModel(twin, lone).partners[lone.outputs[0]].reason
    assert reason == "the float tensor is [1, 8, 8, 8], not [1, 6, 8, 8]"


@pytest.mark.parametrize(("bound", "reached", "partial", "said"), [
    (524287, 524287, 524287, ""),
    (900000, 1000, 2000, "no sum passed 2,000 on 5 photos, a lane holds 524,287"),
    (900000, 1000, 600000, "a partial sum can reach 600,000 on 5 photos"),
    (900000, 600000, 700000, "a sum reached 600,000 on 5 photos, a lane holds 524,287: the chip overflows"),
])  # fmt: skip
def test_what_is_said_of_overflow(bound: int, reached: int, partial: int, said: str) -> None:
    layer = study(chain(), None, pictures(chain(), 1))[0]
    layer.accumulator = Accumulator(2**19 - 1, bound, reached, partial)
    lines = list(_overflow(layer, 5))
    assert len(lines) == bool(said) and all(line.startswith(f"{layer.layer.name}: {said}") for line in lines)
