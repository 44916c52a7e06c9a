"""All files of one model find the same boxes: flavours of ours, published files, checkpoints, integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from support.flavours import small_network
from support.golden import golden_file
from support.infer import nearest, sample_pictures
from uhd import Detector, zoo
from uhd.export.onnx_export import ExportOptions, build, export_onnx
from uhd.export.record import FLAVOURS
from uhd.image.resize import RESIZE_MODES, input_channels
from uhd.infer.options import ModelOptions
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import load_checkpoint, save_checkpoint
from uhd.models.config import parse_config
from uhd.models.ultratinyod import UltraTinyOD

torch.set_num_threads(1)

#: Published files of one model; with post-process they keep 100 cells before suppression, hence the threshold.
PUBLISHED = ("dynamic.onnx", "nopost_noconcat.onnx", "primitive.onnx", "static.onnx", "static_nopost.onnx")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_of_the_shipped_model(tmp_path: Path, flavour: str) -> None:
    model, manifest = load_checkpoint(zoo.checkpoint_path("R"))
    expected = Detector.load(zoo.checkpoint_path("R"), threshold=0.25)
    options = ExportOptions(batch=3 if flavour in ("raw", "post") else 1)
    export_onnx(model, manifest, tmp_path / "model.onnx", flavour, options, verify=False)
    detector = Detector.load(tmp_path / "model.onnx", threshold=0.25)
    assert flavour in detector.engine.what
    pictures = sample_pictures()
    found = detector.rows(pictures)
    assert sum(map(len, found)) >= 3, "the sample photographs show persons"
    for rows, wanted in zip(found, expected.rows(pictures), strict=True):
        assert nearest(rows, wanted) < 1e-4


@pytest.mark.parametrize("flavour", ["parts", "fast"])
def test_files_that_resize_by_themselves(tmp_path: Path, flavour: str) -> None:
    """They are given pictures of their own size, so that every runtime picks the same pixels."""
    model, manifest = small_network(colours=3)
    export_onnx(model, manifest, tmp_path / "any.onnx", flavour, ExportOptions(dynamic_resize=True), verify=False)
    save_checkpoint(tmp_path / "small.safetensors", model, manifest)
    pictures = sample_pictures()
    checkpoint = Detector.load(tmp_path / "small.safetensors")
    floor = max(float(rows[50, 0]) for rows in _everything(checkpoint, pictures))
    checkpoint.choose(threshold=floor)
    detector = Detector.load(tmp_path / "any.onnx", threshold=floor)
    for rows, wanted in zip(detector.rows(pictures), checkpoint.rows(pictures), strict=True):
        assert len(wanted) and nearest(rows, wanted) < 1e-4


@pytest.mark.parametrize("case", ["w16_rgb", "w16_yuv422"])
def test_published_files(case: str) -> None:
    """Random weights: every file's own names, metadata and channel order, and no manifest."""
    checkpoint = Detector.load(golden_file(case, "checkpoint.pt"))
    pictures = sample_pictures()
    floor = max(float(rows[80, 0]) for rows in _everything(checkpoint, pictures))
    checkpoint.choose(threshold=floor)
    expected = checkpoint.rows(pictures)
    names = [name for name in PUBLISHED if case == "w16_rgb" or name != "primitive.onnx"]
    for name in names:
        found = Detector.load(golden_file(case, name), threshold=floor, nms_iou=checkpoint.manifest.nms_iou)
        assert found.manifest.resize_mode == checkpoint.manifest.resize_mode
        for rows, wanted in zip(found.rows(pictures), expected, strict=True):
            assert len(wanted) > 5 and nearest(rows, wanted) < 1e-4, name


def _everything(detector: Detector, pictures: list[np.ndarray]) -> list[np.ndarray]:
    detector.choose(threshold=0.0, nms=False, limit=1000)
    rows = detector.rows(pictures)
    detector.choose(nms_iou=detector.manifest.nms_iou, limit=100)
    return rows


@pytest.mark.parametrize("mode", [mode for mode in RESIZE_MODES if "torch" not in mode])
def test_every_resize_mode(tmp_path: Path, mode: str) -> None:
    """Checkpoint and ONNX of a small model agree, and see what the image contract says."""
    from support.golden import with_recipe_weights
    from uhd.image.resize import resize_image

    channels = input_channels(mode)
    config = parse_config({"width": 8, "in_channels": channels, "anchors": [[0.2, 0.3], [0.5, 0.6]]}, "test")
    model = with_recipe_weights(UltraTinyOD(config)).eval()
    manifest = ModelManifest(name="small", input_channels=channels, resize_mode=mode)  # type: ignore[arg-type]
    manifest = save_checkpoint(tmp_path / "small.safetensors", model, manifest)
    export_onnx(model, manifest, tmp_path / "small.onnx", "raw", verify=False)
    picture = sample_pictures()[0]
    one, other = (Detector.load(tmp_path / f"small.{end}", threshold=0.01) for end in ("safetensors", "onnx"))
    seen = one.engine.prepare(picture)
    assert np.array_equal(seen, resize_image(picture, (64, 64), mode).transpose(2, 0, 1))
    rows = one.rows([picture])[0]
    assert len(rows) > 3 and nearest(rows, other.rows([picture])[0]) < 1e-4


def test_one_picture_or_many_are_the_same(tmp_path: Path) -> None:
    """A batch of two leaves one place empty with five pictures."""
    model, manifest = load_checkpoint(zoo.checkpoint_path("R"))
    path = tmp_path / "two.onnx"
    path.write_bytes(build(model, manifest, "post", ExportOptions(batch=2), verify=False).onnx.SerializeToString())
    detector = Detector.load(path, threshold=0.05)
    pictures = (sample_pictures() * 2)[:5]
    together = detector.many(pictures)
    assert together == [detector(picture) for picture in pictures]
    assert detector.many([]) == []


def test_integers_are_the_devices() -> None:
    """The twin finds what the component's own twin finds, and the oracle nearly so (it decodes without tables)."""
    from uhd.device.detectors import OracleDetector, Settings

    shipped = zoo.shipped_espdl("R", "esp32s3", "speed")
    assert shipped is not None
    pictures = sample_pictures()
    oracle = Detector.load(shipped.path, threshold=0.2, options=ModelOptions(integers="oracle"))
    assert "oracle" in oracle.engine.what
    twin = Detector.load(shipped.path, threshold=0.2)
    from uhd.device.build import Component

    component = Component(shipped.path.parent, shipped.path, shipped.manifest, shipped.path)
    direct = OracleDetector(component, Settings(0.2, shipped.manifest.nms_iou))
    for picture, rows, near in zip(pictures, oracle.rows(pictures), twin.rows(pictures), strict=True):
        assert np.allclose(rows, direct.detect(oracle.engine.prepare(picture)).rows, atol=1e-6)
        if len(rows) and len(near):
            assert abs(rows[0, 0] - near[0, 0]) < 0.01 and np.abs(rows[0, 2:] - near[0, 2:]).max() < 0.02
