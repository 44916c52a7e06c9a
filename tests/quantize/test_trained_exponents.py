"""Exponents that training found: their record in a manifest, when they serve, and their way into the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.qat_nets import quantizer_here
from support.quantize_nets import Plan, manifest_for, pictures
from uhd.errors import ModelError
from uhd.espdl.reader import read_espdl
from uhd.manifest import ModelManifest, parse_manifest
from uhd.quantize.adapter import quantize_with_report
from uhd.quantize.presets import Preset
from uhd.quantize.settings import Settings
from uhd.quantize.trained import Trained, choose_exponents, int16_patterns, trained_of, without_exponents

__all__ = ["quantizer_here"]

EXPONENTS = {
    "input": (-6,), "/first/Conv_out": (-5,), "box": (-4,), "cls": (-3,),
    "/first/Conv:1": (-8, -9, -7, -9), "/box_out/Conv:1": (-7,) * 8, "/cls_out/Conv:1": (-7, -6),
}  # fmt: skip


def manifest_with(trained: Trained) -> ModelManifest:
    made = manifest_for().model_copy(update={"training": {"qat": trained.dump(), "epoch": 3}})
    return parse_manifest(made.dumps(), "manifest")


@given(
    st.dictionaries(st.text(min_size=1), st.lists(st.integers(-60, 20), min_size=1, max_size=5).map(tuple)),
    st.lists(st.text(), max_size=3).map(tuple),
)
def test_record_survives_the_manifest(exponents: dict[str, tuple[int, ...]], patterns: tuple[str, ...]) -> None:
    trained = Trained("esp32p4", 8, patterns, exponents)
    assert trained_of(manifest_with(trained)) == trained


def test_record_serves_only_what_it_was_trained_for() -> None:
    preset = Preset("mine", "", ("/b", "/a"))
    settings = Settings("c", ("x",), preset)
    trained = Trained("c", 8, int16_patterns(settings), EXPONENTS)
    manifest = manifest_with(trained)
    found, remark = choose_exponents(manifest, settings)
    assert found == EXPONENTS and "7 exponents found by training" in remark
    for other, reason in (
        ({"target": "esp32s3"}, "target c"), ({"patterns": ()}, "patterns"), ({"preset": None}, "patterns"),
        ({"bits": 16}, "8 bits"), ({"equalize": True}, "equalization"),
    ):  # fmt: skip
        found, remark = choose_exponents(manifest, dataclasses.replace(settings, **other))
        assert found is None and reason in remark and "calibrated" in remark
    assert choose_exponents(manifest_for(), settings) == (None, "")
    given_ones = dataclasses.replace(settings, exponents={"input": (-1,)})
    assert choose_exponents(manifest, given_ones)[0] == {"input": (-1,)}
    left = without_exponents(manifest).training
    assert left["epoch"] == 3 and left["qat"]["target"] == "c" and "exponents" not in left["qat"]


@pytest.mark.parametrize("bad", [{"input": "a b"}, {"input": ""}, {"input": [1]}, 7])
def test_malformed_record_is_one_line(bad: object) -> None:
    record = {**Trained("c", 8, (), EXPONENTS).dump(), "exponents": bad}
    with pytest.raises(ModelError, match="training.qat is malformed"):
        trained_of(manifest_for().model_copy(update={"training": {"qat": record}}))


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan()
    x = plan.conv("/first/Conv", "input", 2, 4)
    return plan.save(tmp_path_factory.mktemp("trained") / "plan.onnx", x, 4)


@pytest.mark.usefixtures("quantizer_here")
def test_the_file_lies_on_the_trained_grid(onnx: Path, tmp_path: Path) -> None:
    manifest = manifest_with(Trained("esp32p4", 8, (), EXPONENTS))
    report = quantize_with_report(
        onnx, tmp_path / "plan.espdl", pictures(3, (2, 16, 16)), manifest, Settings("esp32p4")
    )
    model = read_espdl(report.espdl.read_bytes(), "esp32p4")
    assert {name: model.tensors[name].exponents for name in ("/first/Conv_out", "box", "cls")} == {
        name: EXPONENTS[name] for name in ("/first/Conv_out", "box", "cls")
    }
    for node in model.nodes:
        weight, bias = (model.tensors[name] for name in node.inputs[1:3])
        assert weight.exponents == EXPONENTS[f"{node.name}:1"]
        source = model.tensors[node.inputs[0]].exponent
        assert bias.exponents == tuple(source + exponent for exponent in weight.exponents)
    assert report.mismatches == 0 and report.vectors > 0
    assert any("found by training are used" in note for note in report.notes)
    quantization = report.manifest.quantization
    assert quantization is not None and quantization.calibration_algorithm == "none: exponents found by training"
    assert "exponents" not in report.manifest.training["qat"]


@pytest.mark.usefixtures("quantizer_here")
@pytest.mark.parametrize(
    ("exponents", "message"),
    [
        (
            {k: v for k, v in EXPONENTS.items() if k != "box"},
            "operator /box_out/Conv: training found no exponent for box",
        ),
        ({**EXPONENTS, "/first/Conv:1": (-8, -9)}, "/first/Conv:1 has 2 exponents"),
    ],
)
def test_exponents_of_another_model_are_refused(
    onnx: Path, tmp_path: Path, exponents: dict[str, tuple[int, ...]], message: str
) -> None:
    settings = Settings("esp32p4", exponents=exponents)
    with pytest.raises(ModelError, match=message):
        quantize_with_report(onnx, tmp_path / "plan.espdl", pictures(2, (2, 16, 16)), manifest_for(), settings)
    assert not list(tmp_path.iterdir())
