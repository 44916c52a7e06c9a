"""Where int8 and int16 meet: the three repairs of esp-ppq. Without any one of them a test here fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from support.quantize_nets import Plan, manifest_for, pictures
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.quantize.adapter import Report, quantize_input, quantize_with_report
from uhd.quantize.settings import Settings

PICTURES = pictures(4, (2, 16, 16))


def build(path: Path) -> Path:
    """Three borders in a row.

    ``/sum``: an int16 Add of two int8 producers, one of which others read too. ``/pool``: an int8 pool behind an
    int16 convolution whose values are mostly negative, so that pooling shrinks their range. ``/small``: an int16 Add
    of two int16 producers with values below 0.1 and of different size, so with steps far below 1e-5. A constant a
    channel and a shared bias come on top.
    """
    plan = Plan(seed=3)
    left = plan.node("Relu", "/left/Relu", plan.conv("/left/Conv", "input", 2, 8, gain=3))
    right = plan.conv("/right/Conv", left, 8, 8)
    total = plan.node("Add", "/sum/Add", left, right)
    low = plan.conv("/low/Conv", total, 8, 8, gain=0.4, shift=-3)
    pool = plan.node("MaxPool", "/pool/MaxPool", low, kernel_shape=[5, 5], pads=[2, 2, 2, 2])
    joined = plan.conv("/joined/Conv", plan.node("Concat", "/cat/Concat", low, pool, axis=1), 16, 8, gain=0.02)
    faint = plan.conv("/faint/Conv", joined, 8, 8, gain=0.2, bias="shared")
    plan.constant("shared", np.zeros(8, np.float32))
    small = plan.node("Add", "/small/Add", joined, faint)
    again = plan.node("Add", "/small/Add_1", small, faint)
    scaled = plan.node("Mul", "/bn/Mul", again, plan.constant("scale", np.linspace(0.5, 9, 8).reshape(1, 8, 1, 1)))
    clipped = plan.node("Relu", "/bn/Relu", scaled)
    return plan.save(path, plan.conv("/last/Conv", clipped, 8, 8, bias="shared"), 8)


PATTERNS = ("/sum/Add", "/low/Conv", "/joined/Conv", "/faint/Conv", "/small/Add")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, EspdlModel]:
    folder = tmp_path_factory.mktemp("borders")
    onnx = build(folder / "borders.onnx")
    settings = Settings("c", patterns=PATTERNS, algorithm="minmax")
    report = quantize_with_report(onnx, folder / "borders.espdl", PICTURES, manifest_for(), settings)
    return onnx, report, read_espdl(report.espdl)


def peak_errors(onnx: Path, model: EspdlModel, name: str) -> float:
    """Largest error of one activation against the float model, in units of that activation's largest value."""
    import onnx as onnx_package

    extended = onnx_package.load(onnx)
    extended.graph.output.append(onnx_package.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    worst = peak = 0.0
    for picture in PICTURES:
        (exact,) = session.run([name], {"input": picture[None]})
        made = oracle.run(model, quantize_input(model, picture), keep_all=True)[name]
        real = made.astype(np.float64) * 2.0 ** model.tensors[name].exponent
        worst = max(worst, float(np.abs(real - exact.transpose(0, 2, 3, 1)).max()))
        peak = max(peak, float(np.abs(exact).max()))
    return worst / peak


def test_the_file_means_what_was_simulated(mixed: tuple[Path, Report, EspdlModel]) -> None:
    _, report, _ = mixed
    assert report.mismatches == 0 and report.vectors > 1000
    assert [finding for finding in report.findings if finding.severity != "note"] == []


def test_all_that_was_asked_is_int16(mixed: tuple[Path, Report, EspdlModel]) -> None:
    _, report, model = mixed
    assert report.manifest.quantization is not None
    assert report.manifest.quantization.int16_operators == [
        "/sum/Add", "/low/Conv", "/joined/Conv", "/faint/Conv", "/small/Add", "/small/Add_1",
    ]  # fmt: skip
    assert next(node for node in model.nodes if node.name == "/pool/MaxPool").bits == 8


def test_int8_producers_of_an_int16_sum_keep_their_range(mixed: tuple[Path, Report, EspdlModel]) -> None:
    """Were they forced to the sum's step, they would saturate at 127 of 32767 of its range."""
    onnx, _, model = mixed
    assert peak_errors(onnx, model, "/left/Relu_out") < 0.03
    assert peak_errors(onnx, model, "/sum/Add_out") < 0.05
    assert model.tensors["/right/Conv_out"].exponent > model.tensors["/sum/Add_out"].exponent + 4


def test_a_pool_copies_integers_of_one_scale(mixed: tuple[Path, Report, EspdlModel]) -> None:
    onnx, _, model = mixed
    pool = next(node for node in model.nodes if node.name == "/pool/MaxPool")
    source, result = model.tensors[pool.inputs[0]], model.tensors[pool.outputs[0]]
    assert (source.exponent, source.dtype) == (result.exponent, result.dtype)
    assert peak_errors(onnx, model, "/pool/MaxPool_out") < 0.05


def test_fine_scales_are_converted_too(mixed: tuple[Path, Report, EspdlModel]) -> None:
    onnx, _, model = mixed
    add = next(node for node in model.nodes if node.name == "/small/Add_1")
    exponents = {model.tensors[name].exponent for name in (*add.inputs, *add.outputs)}
    assert len(exponents) == 1 and 2.0 ** exponents.pop() < 1e-5
    assert peak_errors(onnx, model, "/small/Add_1_out") < 0.05


def test_rewrites_are_recorded(mixed: tuple[Path, Report, EspdlModel]) -> None:
    _, report, model = mixed
    assert report.manifest.quantization is not None
    assert report.manifest.quantization.rewrites == ["/bn/Mul: written as a depthwise 1x1 convolution"]
    node = next(node for node in model.nodes if node.name == "/bn/Mul")
    assert (node.op, node.attributes["group"]) == ("Conv", 8)
