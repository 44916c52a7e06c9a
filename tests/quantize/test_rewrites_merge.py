"""Equal changes of width are made once."""

from __future__ import annotations

import numpy as np
import pytest

from uhd import zoo
from uhd.errors import ModelError
from uhd.espdl import oracle
from uhd.espdl.document import read_document, write_document
from uhd.espdl.reader import read_espdl
from uhd.predict.chips import chip
from uhd.predict.latency import predict
from uhd.predict.workload import workload
from uhd.quantize.calibration import from_scenes
from uhd.quantize.rewrites.apply import Options, rewrite, rewrites_of
from uhd.quantize.rewrites.merge import merge_requantizations
from uhd.quantize.rewrites.proof import prove


def shipped(letter: str, preset: str) -> zoo.ShippedEspdl:
    found = zoo.shipped_espdl(letter, "esp32s3", preset)
    assert found is not None
    return found


def test_the_shipped_r_changes_a_width_twice() -> None:
    data = shipped("R", "precision").path.read_bytes()
    pictures = from_scenes(shipped("R", "precision").manifest, 2).array
    made = rewrite(data, "esp32s3", Options(pad_channels=True), pictures)
    assert rewrites_of(made) == ["repeated changes of width left out: 1"] and not made.padded
    ((gone, kept),) = made.merged.items()
    assert gone not in made.after.tensors and len(made.after.nodes) == len(made.before.nodes) - 1
    same = made.before.tensors[gone], made.before.tensors[kept]
    assert (same[0].dtype, same[0].exponents, same[0].shape) == (same[1].dtype, same[1].exponents, same[1].shape)
    assert made.proof.values == 2 * sum(
        int(np.prod(made.before.tensors[node.outputs[0]].shape)) for node in made.before.nodes
    )
    constants = [{n for n, t in m.tensors.items() if t.data is not None} for m in (made.before, made.after)]
    assert constants[1] < constants[0]
    times = [predict(workload(model), chip("esp32s3")).total_ms for model in (made.before, made.after)]
    assert times[0] > 1.02 * times[1]
    with pytest.raises(ModelError, match="lacks a piece of"):
        prove(made.before, made.after, (), pictures)


def test_what_differs_in_grid_or_input_stays() -> None:
    """Two of the 13 of Z read the same tensor for the same width, at different exponents or not at all."""
    for letter, preset in (("Z", "precision"), ("A", "speed")):
        data = shipped(letter, preset).path.read_bytes()
        document = read_document(data)
        assert merge_requantizations(document) == {} and document == read_document(data)


def test_a_chain_is_merged_from_its_start() -> None:
    """A second pair behind the first: its inputs become the same only by merging."""
    document = read_document(shipped("R", "precision").path.read_bytes())
    graph = document["graph"]
    (gone,) = merge_requantizations(read_document(shipped("R", "precision").path.read_bytes())).items()
    for index, name in enumerate(gone):
        node = next(node for node in graph["nodes"] if node["outputs"] == [name])
        value = next(value for value in graph["values"] if value["name"] == name)
        readers = [other for other in graph["nodes"] if name in other["inputs"]]
        back = dict(node, name=f"back{index}", inputs=[name, *node["inputs"][1:]], outputs=[f"back{index}"])
        graph["nodes"].insert(graph["nodes"].index(readers[0]), back)
        graph["values"].append(value | {"name": f"back{index}"})
        for reader in readers:
            reader["inputs"] = [f"back{index}" if old == name else old for old in reader["inputs"]]
    before = read_espdl(write_document(document))
    assert (
        set(merge_requantizations(document).values()) == {gone[1], "back1"}
        or len(graph["nodes"]) == len(before.nodes) - 2
    )
    after = read_espdl(write_document(document))
    tensor = before.tensors[before.inputs[0]]
    noise = {tensor.name: np.random.default_rng(2).integers(-128, 128, tensor.shape).astype(tensor.dtype)}
    for name, values in oracle.run(before, noise).items():
        np.testing.assert_array_equal(oracle.run(after, noise)[name], values)
