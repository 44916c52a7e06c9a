"""What the command is made of: models read, the converter's command, outputs matched to maps, mAP."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.architectures import small
from support.litert_rig import empty, utod_onnx
from support.quantize_nets import checkpoint_of, pictures
from support.scene_folder import write_scenes
from uhd import zoo
from uhd.data.yolo import load_split
from uhd.errors import DataError, ModelError
from uhd.export.litert_manifest import SUFFIXES, Kind
from uhd.litert import accuracy
from uhd.litert.accuracy import measure
from uhd.litert.compare import differences, match_maps, relative, run_file
from uhd.litert.convert import CALIBRATED, command
from uhd.litert.environment import Environment
from uhd.litert.source import FloatModel, read_model


@functools.cache
def utod() -> FloatModel:
    """The small UltraTinyOD."""
    return read_model(str(utod_onnx()))


@pytest.mark.parametrize("flavour", ["raw", "primitive", "post", "fast"])
def test_every_flavour_is_cut_at_the_same_maps(flavour: str) -> None:
    parts, other = (read_model(str(utod_onnx(one))) for one in ("parts", flavour))
    image = pictures(2, (3, 64, 64))
    expected, found = parts.run(image), other.run(image)
    assert set(found) == set(expected) == {"box", "obj", "quality", "cls"}
    assert all(found[name] == pytest.approx(values, abs=1e-5) for name, values in expected.items())
    assert other.record.outputs and other.record.flavour == "parts"
    assert np.allclose(other.manifest.anchors, parts.manifest.anchors)


@pytest.mark.parametrize(("name", "head", "maps"), [
    ("cnn", "centernet", {"hm", "off", "wh"}), ("detr", "detr", {"logits", "boxes"}),
])  # fmt: skip
def test_heads_without_anchors(name: str, head: str, maps: set[str]) -> None:
    import torch

    model, image = read_model(str(utod_onnx(name=name))), pictures(1, (3, 64, 64))
    with torch.no_grad():
        expected = small(name).maps(torch.from_numpy(image))
    found = model.run(image)
    assert model.record.head == head and set(found) == maps
    assert all(found[key] == pytest.approx(expected[key].numpy(), abs=1e-4) for key in maps)
    with pytest.raises(ModelError, match="flavour fast, .* cannot be converted; export it with"):
        read_model(str(utod_onnx("fast", name)))


def test_a_checkpoint_and_a_shipped_variant() -> None:
    path = checkpoint_of("tiny_litert")
    assert read_model(str(path)).stem == "tiny_litert"
    shipped = zoo.shipped_variants()[0]
    model = read_model(shipped.lower())
    assert model.manifest.variant == shipped and model.stem == zoo.checkpoint_path(shipped).stem


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(sorted(SUFFIXES)), min_size=1))
def test_the_converters_command(kinds: set[Kind]) -> None:
    model, environment = utod(), Environment(Path("/env"))
    words = command(environment, model, kinds, Path("m.onnx"), Path("p.npy"), Path("out"))
    assert words[0] == "/env/bin/python" and words[2:7] == ["p.npy", "-i", "m.onnx", "-o", "out"]
    assert ("--output_dynamic_range_quantized_tflite" in words) == ("dynamic" in kinds)
    assert ("--output_integer_quantized_tflite" in words) == bool(CALIBRATED & kinds)
    assert ("--custom_input_op_name_np_data_path" in words) == bool(CALIBRATED & kinds)
    assert words[words.index("--quant_type") + 1] == "per-channel"


@settings(max_examples=30, deadline=None)
@given(st.permutations(["box", "obj", "quality", "cls"]), st.integers(0, 1000), st.floats(0, 0.3))
def test_outputs_are_matched_by_value(order: list[str], seed: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    expected = {name: random.normal(0, 1, (4, 8 if name == "box" else 2, 3, 3)) for name in sorted(order)}
    found = [expected[name] + noise * random.normal(0, 1, expected[name].shape) for name in order]
    assert match_maps(expected, found, "m") == order  # type: ignore[arg-type]
    largest, mean = differences(expected, dict(zip(order, found, strict=True)))  # type: ignore[arg-type]
    for name, values in zip(order, found, strict=True):
        assert largest[name] == pytest.approx(np.abs(values - expected[name]).max())
        assert mean[name] == pytest.approx(np.abs(values - expected[name]).mean())
    top = {name: max(1.0, float(np.abs(values).max())) for name, values in expected.items()}
    assert relative(expected, largest) == pytest.approx(max(largest[n] / top[n] for n in order))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [
    lambda maps: maps[:-1],
    lambda maps: [*maps, maps[0]],
    lambda maps: [maps[0], maps[1][:, :1]],
])  # fmt: skip
def test_outputs_that_are_not_the_maps(change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> None:
    maps = [np.zeros((1, 8, 2, 2), np.float32), np.zeros((1, 2, 2, 2), np.float32)]
    with pytest.raises(ModelError, match=r"m\.tflite: its outputs \(.*\) are not the maps box, cls"):
        match_maps({"box": maps[0], "cls": maps[1]}, change(maps), "m.tflite")


def test_a_file_that_does_not_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\x1c\0\0\0TFL3" + bytes(40))
    with pytest.raises(ModelError, match=r"broken\.tflite: LiteRT cannot run it: .*; leave this kind out"):
        run_file(empty(tmp_path / "env"), broken, pictures(1, (3, 64, 64)), tmp_path)


def test_map_is_that_of_the_exports_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ways to mAP of one ONNX file: this one, and the one that compares an export with its checkpoint."""
    from uhd.export.validate import validate

    model = utod()
    samples = load_split(write_scenes(tmp_path, 12))

    def blind(images: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.zeros_like(values) for name, values in model.run(images).items()}

    found = measure(model, {"onnx": model.run, "blind": blind}, samples)
    expected = validate(utod_onnx(), small("utod"), samples).onnx
    one = found["onnx"]
    assert (one.map50, one.map50_95) == pytest.approx((expected.map50, expected.map50_95), abs=1e-9)
    assert one.images == 12 and one.detections > 0 and found["blind"] != one
    monkeypatch.setattr(accuracy, "_AT_ONCE", 5)
    assert measure(model, {"onnx": model.run}, samples) == {"onnx": one}, "the parts make no difference"


def test_photos_without_boxes_have_no_map(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path, 2)
    for label in folder.glob("*.txt"):
        label.write_text("")
    with pytest.raises(DataError, match="no photo has a box"):
        measure(utod(), {}, load_split(folder))
