"""Splitting filters in a .espdl: which, into how much, and that nothing else changes. Short names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tiny_espdl import Net, make_espdl, quantize_graph
from uhd.errors import ConfigError, ModelError
from uhd.espdl import oracle
from uhd.espdl.document import Record, read_document, write_document
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.quantize.rewrites.names import shorten_names
from uhd.quantize.rewrites.split import BLOCK, piece_channels, split_filters

TARGETS = ("c", "esp32s3", "esp32p4")


@given(st.integers(1, 3000), st.integers(1, 5000), st.sampled_from([8, 16]), st.integers(1, 100_000))
def test_pieces_are_whole_blocks_within_the_limit(channels: int, channel_bytes: int, bits: int, limit: int) -> None:
    sizes, block = piece_channels(channels, channel_bytes, bits, limit), BLOCK[bits]
    assert sum(sizes) == channels and min(sizes) > 0
    assert all(size % block == 0 for size in sizes[:-1])
    assert max(sizes) * channel_bytes <= limit or max(sizes) <= block
    assert max(sizes) - min(sizes) < 2 * block
    fewest = -(-channels // max(block, limit // channel_bytes // block * block))
    assert len(sizes) == fewest  # more pieces would be more calls and more joining for nothing


@pytest.fixture(scope="module", params=TARGETS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Wide convolutions with and without Relu, one in int16, a 3x3 one, and a Concat of what two of them make."""
    net = Net(3, 2)
    x = net.conv("stem", "input", 20, 3, stride=2)
    a, b, c = (net.conv(name, x, 40, relu=name != "c") for name in "abc")
    pooled = net.op("MaxPool", "pool", [b], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    cat = net.op("Concat", "cat", [a, pooled, b, c], 160, axis=1)
    deep = net.conv("deep", net.conv("dw", cat, 160, 3, group=160), 24, 3, relu=False)
    box = net.conv("box", net.conv("half", deep, 40), 24, relu=False)
    graph = net.model({"box": box})
    folder = tmp_path_factory.mktemp("split")
    target = request.param
    return quantize_graph(graph, folder / "net.espdl", target=target, int16=["/half/Conv"], embed=["box"]).read_bytes()


def outputs(model: EspdlModel) -> dict[str, Any]:
    tensor = model.tensors[model.inputs[0]]
    noise = np.random.default_rng(4).integers(-128, 128, tensor.shape).astype(tensor.dtype)
    return oracle.run(model, {tensor.name: noise})


def split(data: bytes, limit: int) -> tuple[EspdlModel, dict[str, Any], Record]:
    document = read_document(data)
    splits = split_filters(document, limit)
    return read_espdl(write_document(document)), {split.operator: split for split in splits}, document


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (1 << 20, {}),
        (34_559, {"/deep/Conv": (16, 8)}),
        (1500, {"/half/Conv": (24, 16), "/deep/Conv": (16, 8)}),
        (799, {"/half/Conv": (16, 16, 8), "/a/Conv": (32, 8), "/b/Conv": (32, 8), "/c/Conv": (32, 8),
               "/deep/Conv": (16, 8), "/box/Conv": (16, 8)}),
        (1, {"/stem/Conv": (16, 4), "/half/Conv": (8,) * 5, "/a/Conv": (16, 16, 8), "/b/Conv": (16, 16, 8),
             "/c/Conv": (16, 16, 8), "/deep/Conv": (16, 8), "/box/Conv": (16, 8)}),
    ],
)  # fmt: skip
def test_only_what_exceeds_the_limit_is_split(data: bytes, limit: int, wanted: dict[str, tuple[int, ...]]) -> None:
    before = read_espdl(data)
    after, splits, document = split(data, limit)
    assert {name: found.channels for name, found in splits.items()} == wanted
    if not splits:
        assert document == read_document(data)
    for name, values in outputs(before).items():
        np.testing.assert_array_equal(outputs(after)[name], values, strict=True)
        assert len(np.unique(values)) > 20
    sizes = {node.name: after.tensors[node.inputs[1]].data.nbytes for node in after.nodes if node.op == "Conv"}  # type: ignore[union-attr]
    for found in splits.values():
        made = [sizes[part] for part in found.parts]
        assert sum(made) == found.filter_bytes > limit and max(made) == found.largest_bytes
    used = {name for node in after.nodes for name in node.inputs}
    lost = {name for name, tensor in after.tensors.items() if tensor.data is not None} - used
    assert lost == {n for n, t in before.tensors.items() if t.data is not None} - {
        name for node in before.nodes for name in node.inputs
    }, "constants of the whole filter are gone"


def test_pieces_lie_in_the_file_as_the_quantizer_would_lay_them(data: bytes) -> None:
    _, splits, document = split(data, 1)
    graph = document["graph"]
    filters = {node["name"]: node["inputs"][1] for node in graph["nodes"] if node["op"] == "Conv"}
    constants = {tensor["name"]: tensor for tensor in graph["constants"]}
    notes = {name: constants[filters[name]]["doc"].removeprefix("layout ==> ") for name in filters}
    plain = read_espdl(data).target == "c"
    assert notes["/a/Conv_part0"] == ("NHWC" if plain else "(N/16)HWC16")
    assert notes["/a/Conv_part2"] == ("NHWC" if plain else "(N/16)HWC16_UNALIGNED")
    assert {notes[name] for name in splits["/half/Conv"].parts} == {"NHWC" if plain else "(N/8)HWC8"}
    assert constants[filters["/deep/Conv_part1"]]["dims"] == [3, 3, 160, 8]


def test_names_and_a_concat_that_alone_reads_pieces(data: bytes) -> None:
    after, splits, _ = split(data, 799)
    nodes = {node.name: node for node in after.nodes}
    ends = {name: [f"{output}_part{number}" for number in range(2)]
            for name, output in (("a", "a_act_out"), ("b", "b_act_out"), ("c", "c_out"))}  # fmt: skip
    assert list(nodes["/cat/Concat"].inputs) == [*ends["a"], "pool_out", "b_act_out", *ends["c"]]
    assert list(nodes["/b/Conv_concat"].inputs) == ends["b"] and nodes["/b/Conv_concat"].outputs == ("b_act_out",)
    assert not {"/a/Conv", "/a/Conv_concat", "/c/Conv_concat"} & set(nodes)
    assert {name for name, found in splits.items() if found.merged} == {"/a/Conv", "/c/Conv"}
    assert splits["/a/Conv"].concat == "/cat/Concat" and not {"a_act_out", "c_out"} & set(after.tensors)
    assert nodes["/a/Conv_part1"].attributes["activation"] == "Relu"
    assert nodes["/half/Conv_concat"].bits == 16 == nodes["/half/Conv_part0"].bits
    assert after.outputs == ("box",) == nodes["/box/Conv_concat"].outputs
    requantized = [node for node in after.nodes if node.op == "RequantizeLinear"]
    assert len(requantized) == len([n for n in read_espdl(data).nodes if n.op == "RequantizeLinear"]), "once, not twice"


def test_mistakes(data: bytes) -> None:
    document = read_document(data)
    with pytest.raises(ConfigError, match="limit of 0 bytes"):
        split_filters(document, 0)
    taken = copy.deepcopy(document)
    next(node for node in taken["graph"]["nodes"] if node["op"] == "MaxPool")["name"] = "/a/Conv_part1"
    with pytest.raises(ModelError, match="/a/Conv_part1: a piece of a filter would take this name"):
        split_filters(taken, 799)


@pytest.mark.parametrize("target", TARGETS)
def test_short_names_change_nothing_else(target: str) -> None:
    path: Path = make_espdl(target, mixed=True)  # with a table, and test vectors of every tensor
    before, document = read_espdl(path), read_document(path.read_bytes())
    names = shorten_names(document)
    written = write_document(document)
    after = read_espdl(written)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert len(before.test_outputs) > 15 and len(set(names.tensors.values())) == len(names.tensors)
    for old, new in zip(before.nodes, after.nodes, strict=True):
        assert new.name == names.operators[old.name] and len(new.name) <= 4
        assert new.outputs == tuple(names.tensors[name] for name in old.outputs)
        assert old.attributes.keys() == new.attributes.keys()
    assert any("lut" in node.attributes for node in after.nodes)
    old, new = (oracle.run(model, before.test_inputs, keep_all=True) for model in (before, after))
    for name, values in before.test_outputs.items():
        np.testing.assert_array_equal(after.test_outputs[names.tensors[name]], values)
        np.testing.assert_array_equal(new[names.tensors[name]], old[name])
    assert len(written) < len(write_document(read_document(path.read_bytes())))


def test_a_tensor_that_is_called_like_a_short_name_keeps_it_to_itself() -> None:
    document = read_document(make_espdl("c").read_bytes())
    graph = document["graph"]
    for part in ("outputs", "values", "test_outputs"):
        for value in graph[part]:
            value["name"] = {"box": "t3"}.get(value["name"], value["name"])
    for node in graph["nodes"]:
        node["outputs"] = ["t3" if name == "box" else name for name in node["outputs"]]
    names = shorten_names(document)
    assert names.tensors["t3"] == "t3" and len(set(names.tensors.values())) == len(names.tensors)
    assert set(read_espdl(write_document(document)).outputs) == {"t3", "cls"}
