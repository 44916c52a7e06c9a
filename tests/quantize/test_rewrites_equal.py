"""A model with split filters gives every integer of the plain one: oracle, twin, and the proof that refuses others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.components import need_compiler
from support.qat_nets import quantizer_here
from support.quantize_nets import Plan, manifest_for, pictures
from uhd import zoo
from uhd.codegen import generate
from uhd.device.twin import Twin
from uhd.errors import ConfigError, ModelError
from uhd.espdl import oracle
from uhd.espdl.document import Record
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.manifest import load_manifest
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.rewrites import apply
from uhd.quantize.rewrites.apply import Outcome, quantize_split
from uhd.quantize.rewrites.proof import prove
from uhd.quantize.rewrites.split import Split, split_filters
from uhd.quantize.settings import Settings

__all__ = ["quantizer_here"]

LIMIT = 800
SHAPE = (2, 16, 16)
#: What only a Concat reads, unless a change of width lies between: it takes the pieces themselves.
MERGED = "/narrow/Relu_out"


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions with and without Relu, into a sum, a pooling, another convolution, and out of a depthwise one."""
    plan = Plan()
    x = plan.node("Relu", "/stem/Relu", plan.conv("/stem/Conv", "input", 2, 24))
    left = plan.node("Relu", "/left/Relu", plan.conv("/left/Conv", x, 24, 40, gain=3))
    right = plan.conv("/right/Conv", x, 24, 40, gain=0.3)
    joined = plan.node("Add", "/Add", left, right)
    pooled = plan.node("MaxPool", "/pool", joined, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    deep = plan.node(
        "Conv", "/dw/Conv", pooled, plan.constant("dw.weight", plan.rng.normal(0, 0.3, (40, 1, 3, 3))),
        group=40, kernel_shape=[3, 3], pads=[1, 1, 1, 1],
    )  # fmt: skip
    wide = plan.node("Relu", "/wide/Relu", plan.conv("/wide/Conv", deep, 40, 48))
    narrow = plan.node("Relu", "/narrow/Relu", plan.conv("/narrow/Conv", wide, 48, 40))
    both = plan.node("Concat", "/both", narrow, joined, axis=1)
    return plan.save(tmp_path_factory.mktemp("rewrites") / "plan.onnx", both, 80)


def split(onnx: Path, output: Path, target: str, patterns: tuple[str, ...] = (), bits: int = 8, **more: Any) -> Outcome:
    settings = Settings(target, patterns, algorithm="minmax", bits=bits)
    return quantize_split(
        onnx, output, pictures(3, SHAPE), manifest_for(), settings,
        **{"limit": LIMIT, "pictures": pictures(4, SHAPE, seed=8), **more},
    )  # fmt: skip


def noise(model: EspdlModel, count: int = 6) -> list[dict[str, NDArray[Any]]]:
    """Inputs over all integers, which reach saturation as pictures may not."""
    tensor = model.tensors[model.inputs[0]]
    limits = np.iinfo(tensor.dtype)
    rng = np.random.default_rng(5)
    return [
        {tensor.name: rng.integers(limits.min, limits.max + 1, tensor.shape).astype(tensor.dtype)} for _ in range(count)
    ]


def filters(model: EspdlModel) -> dict[str, int]:
    """Bytes of the filters of all convolutions without groups."""
    found = {}
    for node in model.nodes:
        data = model.tensors[node.inputs[1]].data if node.op == "Conv" else None
        if data is not None and node.attributes.get("group", 1) == 1:
            found[node.name] = data.nbytes
    return found


@pytest.mark.usefixtures("quantizer_here")
@pytest.mark.parametrize(
    ("target", "patterns", "bits"),
    [
        *((target, (), 8) for target in ("c", "esp32s3", "esp32p4")),
        *((target, ("/left/Conv", "/narrow/Conv"), 8) for target in ("c", "esp32s3", "esp32p4")),
        ("esp32s3", ("/wide/Conv", "/right/Conv", "/stem/Conv"), 8),
        ("esp32p4", (), 16),
    ],
)
def test_every_integer_is_that_of_the_plain_model(
    onnx: Path, tmp_path: Path, target: str, patterns: tuple[str, ...], bits: int
) -> None:
    outcome = split(onnx, tmp_path / "split.espdl", target, patterns, bits)
    before, after = outcome.before, read_espdl(tmp_path / "split.espdl", target)
    merged = {split.output for split in outcome.splits if split.merged}
    assert merged == (set() if "/narrow/Conv" in patterns else {MERGED})
    assert {node.name for node in before.nodes if node.bits == 16} >= {name for name in patterns}
    for inputs in noise(before):
        old, new = (oracle.run(model, inputs, keep_all=True) for model in (before, after))
        for node in before.nodes:
            name = node.outputs[0]
            pieces = [new[part] for part in outcome.splits[-1].part_outputs] if name in merged else [new[name]]
            np.testing.assert_array_equal(old[name], np.concatenate(pieces, axis=-1), strict=True)
        assert len({value for name in before.outputs for value in old[name].reshape(-1).tolist()}) > 20
    assert max(filters(before).values()) > LIMIT
    assert all(size <= LIMIT or name == "/box_out/Conv" for name, size in filters(after).items())  # that is one block
    assert any(node.name == "/narrow/Conv_concat" for node in after.nodes) is not bool(merged)
    assert {s.operator for s in outcome.splits} == {"/left/Conv", "/right/Conv", "/wide/Conv", "/narrow/Conv"}
    assert outcome.report.mismatches == 0 < outcome.report.vectors


@pytest.mark.usefixtures("quantizer_here")
def test_the_manifest_is_that_of_an_ordinary_quantization(onnx: Path, tmp_path: Path) -> None:
    patterns = ("/wide/Conv", "/narrow/Conv")
    outcome = split(onnx, tmp_path / "split.espdl", "esp32s3", patterns)
    settings = Settings("esp32s3", patterns, algorithm="minmax")
    report = quantize_with_report(onnx, tmp_path / "plain.espdl", pictures(3, SHAPE), manifest_for(), settings)
    assert read_espdl(tmp_path / "plain.espdl", "esp32s3").sha256 == outcome.before.sha256
    plain, made = report.manifest.quantization, load_manifest(tmp_path / "split.json").quantization
    assert plain is not None and made is not None
    assert made.espdl_sha256 == outcome.after.sha256 != plain.espdl_sha256
    changed = {"int16_operators", "rewrites", "espdl_sha256"}
    assert made.model_dump(exclude=changed) == plain.model_dump(exclude=changed)
    assert plain.rewrites == [] and made.rewrites == [
        f"{split.operator}: filter of {split.filter_bytes} bytes split into {len(split.parts)} convolutions"
        for split in outcome.splits
    ]
    assert plain.int16_operators == ["/wide/Conv", "/narrow/Conv"]
    assert {"/wide/Conv_part0", "/wide/Conv_concat", "/narrow/Conv_part2"} < set(made.int16_operators)
    assert set(made.int16_operators) == {
        node.name for node in outcome.after.nodes if node.bits == 16 and node.op != "RequantizeLinear"
    }


@pytest.mark.usefixtures("quantizer_here")
def test_the_component_of_a_split_model_computes_the_plain_models_integers(onnx: Path, tmp_path: Path) -> None:
    need_compiler()
    outcome = split(onnx, tmp_path / "split.espdl", "c", ("/wide/Conv",))
    generate(outcome.after, (tmp_path / "split.espdl").read_bytes(), outcome.report.manifest, tmp_path / "component")
    twin = Twin(tmp_path / "component")
    for inputs in noise(outcome.before, 4):
        wanted = oracle.run(outcome.before, inputs)
        for found in (twin.run(inputs), twin.run_in_arena(inputs)):
            for name, values in wanted.items():
                np.testing.assert_array_equal(found[name].reshape(values.shape), values)


@pytest.mark.usefixtures("quantizer_here")
def test_a_model_within_the_limit_is_the_plain_one(onnx: Path, tmp_path: Path) -> None:
    outcome = split(onnx, tmp_path / "split.espdl", "esp32s3", limit=1 << 20)
    assert outcome.splits == () and outcome.before is outcome.after
    assert (tmp_path / "split.espdl").stat().st_size == outcome.before.size_bytes
    assert any("nothing was split" in note for note in outcome.report.notes)
    quantization = outcome.report.manifest.quantization
    assert quantization is not None and quantization.rewrites == []


@pytest.mark.usefixtures("quantizer_here")
def test_nothing_is_written_unless_all_integers_agree(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the rewrite itself: two pieces change places."""

    def wrong(document: Record, limit: int) -> tuple[Split, ...]:
        splits = split_filters(document, limit)
        parts = {node["name"]: node for node in document["graph"]["nodes"]}
        first, second = parts["/wide/Conv_part0"], parts["/wide/Conv_part1"]
        first["inputs"], second["inputs"] = second["inputs"], first["inputs"]
        return splits

    monkeypatch.setattr(apply, "split_filters", wrong)
    with pytest.raises(ModelError, match="another filter of /wide/Conv"):
        split(onnx, tmp_path / "made" / "split.espdl", "esp32s3")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.usefixtures("quantizer_here")
def test_what_the_proof_refuses(onnx: Path, tmp_path: Path) -> None:
    outcome = split(onnx, tmp_path / "split.espdl", "esp32p4")
    before, after, splits = outcome.before, outcome.after, outcome.splits
    chosen = pictures(2, SHAPE)
    steps: list[tuple[str, int, int]] = []
    proof = prove(before, after, splits, chosen, lambda *step: steps.append(step))
    assert steps == [("compare", 0, 2), ("compare", 1, 2)] and proof.pictures == 2
    kept = [name for node in before.nodes for name in node.outputs]
    assert proof.values == 2 * sum(int(np.prod(before.tensors[name].shape)) for name in kept)

    def changed(name: str, **fields: Any) -> EspdlModel:
        tensor = dataclasses.replace(after.tensors[name], **fields)
        return dataclasses.replace(after, tensors={**after.tensors, name: tensor})

    part = next(node for node in after.nodes if node.name == "/wide/Conv_part1")
    weight, bias = (after.tensors[name] for name in part.inputs[1:3])
    assert weight.data is not None and bias.data is not None
    other = weight.data.copy()
    other[3, 0, 0, 7] += 1 if other[3, 0, 0, 7] < 100 else -1
    turned = tuple(
        dataclasses.replace(node, inputs=node.inputs[::-1]) if node.name == "/wide/Conv_concat" else node
        for node in after.nodes
    )
    for model, message in (
        (changed(weight.name, data=other), "another filter of /wide/Conv"),
        (changed(bias.name, data=bias.data + 1), "another bias of /wide/Conv"),
        (changed(weight.name, exponents=(0, *weight.exponents[1:])), "another filter of /wide/Conv"),
        (changed("/Add_out", exponents=(5,)), "another shape, type or exponent of /Add_out"),
        (dataclasses.replace(after, outputs=("box",)), "other inputs or outputs"),
        (dataclasses.replace(after, nodes=tuple(n for n in after.nodes if n is not part)), "lacks a piece of /wide"),
        (dataclasses.replace(after, nodes=after.nodes[:-1]), "lacks"),
        (dataclasses.replace(after, nodes=turned), r"differs in \d+ of \d+ integers of .* on picture 0"),
    ):
        with pytest.raises(ModelError, match=message):
            prove(before, model, splits, chosen)


def test_mistakes_are_told_before_anything_runs(onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pictures to compare"):
        quantize_split(
            onnx, tmp_path / "a.espdl", pictures(2, SHAPE), manifest_for(), Settings("c"), pictures=pictures(0, SHAPE)
        )
    with pytest.raises(ConfigError, match=r"must end in \.espdl"):
        quantize_split(onnx, tmp_path / "a.bin", pictures(2, SHAPE), manifest_for(), Settings("c"))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quantizer_here")
def test_the_shipped_a_loses_all_filters_beyond_the_cache(tmp_path: Path) -> None:
    from uhd.export.onnx_export import export_onnx
    from uhd.host.quantize_split import forecast
    from uhd.models.checkpoint import load_ultratinyod

    network, manifest = load_ultratinyod(zoo.checkpoint_path("A"))
    export_onnx(network, manifest, tmp_path / "a.onnx", flavour="parts")
    outcome = quantize_split(
        tmp_path / "a.onnx", tmp_path / "a.espdl", pictures(2), manifest, Settings("esp32s3", algorithm="minmax")
    )
    assert max(filters(outcome.before).values()) == 102_400
    assert max(filters(outcome.after).values()) <= 48 * 1024
    assert {split.operator: split.channels for split in outcome.splits} == {
        "/backbone/block3/pw/conv/Conv": (160, 160), "/backbone/block3_skip/conv/Conv": (160, 160),
        "/backbone/block4/pw/conv/Conv": (112, 112, 96),
        "/backbone/sppf/cv1/conv/Conv": (80, 80), "/backbone/sppf/cv2/conv/Conv": (80, 80),
    }  # fmt: skip
    assert outcome.proof.pictures == 2 and outcome.proof.constants > 700_000
    found = forecast(outcome)
    assert found is not None and found.before_ms > 1.9 * (found.after_ms + found.traffic_ms) > 100
