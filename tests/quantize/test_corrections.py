"""Bias correction, TQT and given grids: equal to the bit, on the grid that was there, and worth something."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.qat_nets import quantizer_here
from support.quantize_nets import Plan, manifest_for, pictures
from uhd.errors import ConfigError, ModelError
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.quantize import child
from uhd.quantize.adapter import Report, quantize_input, quantize_with_report
from uhd.quantize.grid import exponents_of, read_grid, write_grid
from uhd.quantize.settings import Settings
from uhd.quantize.source import read_source, run_float

__all__ = ["quantizer_here"]

_FOLDER = tempfile.TemporaryDirectory(prefix="corrections_")

PICTURES = pictures(12, (2, 16, 16))
INT16 = ("/second/Conv",)


@functools.cache
def network() -> Path:
    """Four convolutions, one of them doubled up by a Resize and an Add, whose ranges differ a lot."""
    plan = Plan()
    first = plan.node("Relu", "/first/Relu", plan.conv("/first/Conv", "input", 2, 8, gain=3.0))
    small = plan.node("MaxPool", "/pool/MaxPool", first, kernel_shape=[2, 2], strides=[2, 2])
    small = plan.node("Relu", "/second/Relu", plan.conv("/second/Conv", small, 8, 8, shift=0.3))
    sizes = plan.constant("none", np.empty(0, np.float32)), plan.constant("scales", np.array([1, 1, 2, 2]))
    kind = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    large = plan.node("Resize", "/up/Resize", small, *sizes, **kind)
    added = plan.node("Add", "/sum/Add", plan.conv("/third/Conv", first, 8, 8), large)
    return plan.save(Path(tempfile.mkdtemp(dir=_FOLDER.name)) / "net.onnx", added, 8)


def made(folder: Path, target: str, **settings: object) -> tuple[Report, EspdlModel]:
    number = len(list(folder.iterdir()))
    report = quantize_with_report(
        network(), folder / f"{number}.espdl", PICTURES, manifest_for(),
        Settings(target, algorithm="minmax", **settings),  # type: ignore[arg-type]
    )  # fmt: skip
    return report, read_espdl(report.espdl, target)


@functools.cache
def float_maps() -> list[dict[str, NDArray[np.float32]]]:
    source = read_source(network())
    return [run_float(source, picture) for picture in PICTURES[:6]]


def differences(model: EspdlModel) -> dict[str, NDArray[np.float64]]:
    """Integer maps less float ones [picture, H, W, C], by name."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for picture, wanted in zip(PICTURES, float_maps(), strict=False):
        for name, values in oracle.run(model, quantize_input(model, picture)).items():
            real = values.astype(np.float64) * 2.0 ** model.tensors[name].exponent
            found.setdefault(name, []).append(real[0] - wanted[name][0].transpose(1, 2, 0))
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("target", ["c", "esp32s3", "esp32p4"])
@pytest.mark.usefixtures("quantizer_here")
def test_corrected_models_are_exact_on_the_same_grid(target: str, tmp_path: Path) -> None:
    """int8 with one int16 operator: esp-ppq's integers, the oracle's and the grid are not disturbed."""
    plain, before = made(tmp_path, target, patterns=INT16)
    both, after = made(tmp_path, target, patterns=INT16, bias_correction=True, tqt_steps=4)
    assert both.vectors == plain.vectors > 0 == both.mismatches
    assert exponents_of(after) == exponents_of(before)
    filters = [node.inputs[1] for node in before.nodes if node.op == "Conv"]
    assert any((after.tensors[name].data != before.tensors[name].data).any() for name in filters)  # type: ignore[union-attr]
    biases = [node.inputs[2] for node in before.nodes if node.op == "Conv"]
    assert any((after.tensors[name].data != before.tensors[name].data).any() for name in biases)  # type: ignore[union-attr]
    quantization = both.manifest.quantization
    assert quantization is not None
    assert quantization.rewrites == ["TQT: weights trained for 4 steps at rate 0.0001", "bias correction"]


@pytest.mark.usefixtures("quantizer_here")
def test_they_are_worth_something(tmp_path: Path) -> None:
    """The mean error of a map falls with bias correction, and its squared error with TQT."""
    plain = differences(made(tmp_path, "esp32s3")[1])
    shifted = differences(made(tmp_path, "esp32s3", bias_correction=True)[1])
    trained = differences(made(tmp_path, "esp32s3", tqt_steps=30)[1])

    def offset(maps: dict[str, NDArray[np.float64]]) -> float:
        return sum(float(np.square(values.mean((0, 1, 2))).sum()) for values in maps.values())

    def square(maps: dict[str, NDArray[np.float64]]) -> float:
        return sum(float(np.square(values).mean()) for values in maps.values())

    assert offset(shifted) < 0.5 * offset(plain)
    assert square(trained) < 0.9 * square(plain)


@pytest.mark.usefixtures("quantizer_here")
def test_an_executor_that_remembers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from esp_ppq.executor import TorchExecutor

    from uhd.quantize import corrections

    remembering = made(tmp_path, "esp32s3", bias_correction=True, tqt_steps=3)[0]
    monkeypatch.setattr(corrections, "_Remembering", lambda graph, batches: TorchExecutor(graph=graph, device="cpu"))
    plain = made(tmp_path, "esp32s3", bias_correction=True, tqt_steps=3)[0]
    assert plain.espdl.read_bytes() == remembering.espdl.read_bytes()


def test_a_kept_process_gives_the_same_bytes(tmp_path: Path) -> None:
    alone = made(tmp_path, "esp32s3", bias_correction=True, tqt_steps=2)[0].espdl.read_bytes()
    with child.kept():
        with pytest.raises(ConfigError, match="matches none"):
            made(tmp_path, "esp32s3", patterns=("nowhere",))
        report, model = made(tmp_path, "esp32s3")
        grid = tmp_path / "grid.json"
        write_grid(grid, exponents_of(model))
        again = made(tmp_path, "esp32s3", bias_correction=True, tqt_steps=2, exponents=read_grid(grid))[0]
    assert again.espdl.read_bytes() == alone, "the grid found once serves what is done to the weights on it"
    assert report.espdl.read_bytes() != alone
    assert again.manifest.quantization is not None
    assert again.manifest.quantization.calibration_algorithm == "none: exponents given"


def test_what_is_no_grid(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    for text in ("[1]", "{", '{"input": "a"}', '{"input": ""}', '{"input": null}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="not a grid"):
            read_grid(path)
    with pytest.raises(ModelError, match="cannot read"):
        read_grid(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("settings", "what"), [({"tqt_steps": -1}, "steps"), ({"tqt_rate": 0.0}, "rate"), ({"tqt_rate": 1.0}, "rate")]
)
def test_values_out_of_range(settings: dict[str, float], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Settings("c", **settings).check()  # type: ignore[arg-type]
