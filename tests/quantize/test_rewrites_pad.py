"""Padding channels: which, that the others keep their integers, and what a proof of it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from support.quantize_nets import pictures
from support.tiny_espdl import make_espdl
from uhd import zoo
from uhd.errors import ModelError
from uhd.espdl import oracle
from uhd.espdl.document import read_document, write_document
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.predict.chips import chip
from uhd.predict.latency import predict
from uhd.predict.workload import workload
from uhd.quantize.rewrites.apply import Options, Rewritten, rewrite
from uhd.quantize.rewrites.pad import pad_channels
from uhd.quantize.rewrites.proof import prove

#: Of the small detector, 20 channels wide: what a Concat of 20 and 20 joins stays, and the maps do.
PADDED = {"fuse_act_out", "down_act_out", "large_act_out", "up_out", "back_act_out", "merge_out", "ese_mean_out",
          "ese_fc_out", "ese_gate_out", "ese_out", "box_tower_act_out"}  # fmt: skip


def padded(target: str, **options: Any) -> tuple[EspdlModel, EspdlModel, dict[str, int], Any]:
    data = make_espdl(target, **options).read_bytes()
    document = read_document(data)
    found = pad_channels(document, target)
    return read_espdl(data), read_espdl(write_document(document)), found, document


@pytest.mark.parametrize(("target", "mixed"), [("esp32s3", False), ("esp32s3", True), ("esp32p4", True)])
def test_all_other_channels_keep_their_integers(target: str, mixed: bool) -> None:
    before, after, found, document = padded(target, mixed=mixed)
    assert {name for name in found if before.tensors[name].data is None} >= PADDED
    for seed in range(4):
        tensor = before.tensors[before.inputs[0]]
        noise = np.random.default_rng(seed).integers(-128, 128, tensor.shape).astype(tensor.dtype)
        old, new = (oracle.run(model, {tensor.name: noise}, keep_all=True) for model in (before, after))
        for node in before.nodes:
            (name,) = node.outputs
            np.testing.assert_array_equal(new[name][..., : old[name].shape[-1]], old[name], strict=True)
            assert (new[name].shape == old[name].shape) is (name not in found)
    for name, channels in found.items():
        tensor = after.tensors[name]
        if before.tensors[name].data is None:
            lanes = 8 if tensor.dtype == "int16" else 16
            assert channels % lanes and tensor.shape[-1] % 8 == 0 and 0 < tensor.shape[-1] - channels < 16
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    stored = {tensor["name"]: tensor for tensor in document["graph"]["constants"]}
    weight = next(node.inputs[1] for node in after.nodes if node.name == "/box_tower/Conv")
    assert stored[weight]["dims"] == [3, 3, 32, 1], "int8 reads the same channels"
    assert not stored[weight]["doc"].endswith("UNALIGNED")


def test_channels_that_a_concat_joins_and_those_that_fit_stay() -> None:
    before, after, found, _ = padded("esp32s3")
    for name in ("skip_out", "pool_out", "cat_out", "stem_act_out", "box", "cls", "input"):
        assert name not in found and after.tensors[name].shape == before.tensors[name].shape
    document = read_document(make_espdl("c").read_bytes())
    assert pad_channels(document, "c") == {} and document == read_document(make_espdl("c").read_bytes())


@pytest.fixture(scope="module")
def made() -> Rewritten:
    data = make_espdl("esp32p4", mixed=True).read_bytes()
    options = Options(filter_limit=400, pad_channels=True, short_names=True)
    return rewrite(data, "esp32p4", options, pictures(2, (2, 16, 16)))


def test_with_all_the_other_rewrites(made: Rewritten) -> None:
    assert len(made.splits) > 4 and len(made.padded) > 20 and made.proof.pictures == 2
    compared = sum(made.before.tensors[name].data is None for name in made.padded)
    assert compared >= len(PADDED) and made.proof.values > 20_000
    inputs = {name: np.full(made.before.tensors[name].shape, -77, np.int8) for name in made.before.inputs}
    for name, values in oracle.run(made.before, inputs).items():
        np.testing.assert_array_equal(oracle.run(made.after, inputs)[name], values)


def test_what_the_proof_refuses(made: Rewritten) -> None:
    def proved(after: EspdlModel, names: Any = made.padded) -> None:
        prove(made.before, after, made.splits, pictures(1, (2, 16, 16)), names=made.names, padded=names)

    proved(made.after)
    with pytest.raises(ModelError, match="another (shape|filter|bias)"):
        proved(made.after, {})
    name = made.names.tensors[next(n.inputs[1] for n in made.before.nodes if n.name == "/box_tower/Conv")]
    weight = made.after.tensors[name]
    assert weight.data is not None and not weight.data[..., -1].any()
    for at in ((0, 1, 1, weight.shape[-1] - 1), (0, 1, 1, 3)):  # among the zeros, and among the others
        data = weight.data.copy()
        data[at] += 1
        changed = dataclasses.replace(weight, data=data)
        with pytest.raises(ModelError, match="another filter of /box_tower/Conv"):
            proved(dataclasses.replace(made.after, tensors=made.after.tensors | {name: changed}))


def test_what_it_is_worth_to_the_shipped_y() -> None:
    shipped = zoo.shipped_espdl("Y", "esp32s3", "speed")
    assert shipped is not None
    data = shipped.path.read_bytes()
    document = read_document(data)
    assert len(pad_channels(document, "esp32s3")) == 24
    after = read_espdl(write_document(document), "esp32s3")
    times = [predict(workload(model), chip("esp32s3")).total_ms for model in (read_espdl(data), after)]
    assert times[0] > 1.04 * times[1]
    resize = next(node for node in after.nodes if node.op == "Resize")
    sizes = after.tensors[resize.inputs[3]].data
    assert sizes is not None and sizes.tolist() == [1, 128, 8, 8], "120 before"
    slow = [op.name for op in workload(after) if op.kind == "Conv" and not op.aligned]
    assert all("stem" in name or "_out" in name for name in slow), "only what has 2 or 8 channels at the graph's ends"
