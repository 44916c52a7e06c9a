"""Every golden checkpoint and every golden ONNX file imports, and computes what it computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from support.golden import golden_array, golden_index
from support.shared import shared_dir
from uhd.detect.decode import decode_maps
from uhd.export.verify import row_difference
from uhd.importing.importer import Imported, import_file
from uhd.models.checkpoint import load_checkpoint


def golden_files(pattern: str) -> list[str]:
    """Files by ``case/name``; one placeholder, which skips when used, where the fixtures are absent."""
    try:
        base = shared_dir("fixtures", "golden")
    except pytest.skip.Exception:
        return ["fixtures/absent"]
    return [str(path.relative_to(base)) for path in sorted(base.glob(pattern))]


@pytest.mark.parametrize("name", golden_files("*/checkpoint.pt"))
def test_checkpoints(tmp_path: Path, name: str) -> None:
    case = shared_dir("fixtures", "golden", name).parent
    found = import_file(case / "checkpoint.pt", tmp_path / "a.safetensors")
    model, manifest = load_checkpoint(tmp_path / "a.safetensors")
    assert (found.kind, found.manifest) == ("checkpoint", manifest)
    assert manifest.training["imported_from"] == "checkpoint.pt"
    x = torch.from_numpy(np.load(case / "input.npy"))
    with torch.no_grad():
        got = model(x)
    recorded = case / "outputs.npz"
    want = dict(np.load(recorded)) if recorded.exists() else {"raw": np.load(case / "raw.npy")}
    maps = got if isinstance(got, dict) else {"raw": got}
    assert maps.keys() == want.keys()
    for key, values in maps.items():  # a transformer's recorded outputs begin with the queries
        turned = values.transpose(0, 1) if manifest.architecture == "transformer" else values
        np.testing.assert_allclose(turned, want[key], atol=1e-5)


def decoded(found: Imported, image: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of the written checkpoint for one picture, and what they decode to."""
    model, manifest = load_checkpoint(found.output)
    with torch.no_grad():
        tensors = model.maps(torch.from_numpy(image), list(model.config.maps_for()))
    maps = {name: values.numpy() for name, values in tensors.items()}
    anchors, scale = (np.array(pairs, np.float32) for pairs in (manifest.anchors, manifest.wh_scale))
    scores, boxes = decode_maps(maps, anchors, scale, manifest.score_mode, manifest.quality_power)
    rows = np.column_stack([scores[0, :, 0], np.zeros(len(scores[0])), boxes[0]]).astype(np.float32)
    best = np.argsort(-rows[:, 0], kind="stable")[:100]
    return {**maps, "score_classid_cxcywh": rows[best][None], "boxes": boxes[0]}


@pytest.mark.parametrize("name", golden_files("*/*.onnx"))
def test_onnx_files(tmp_path: Path, name: str) -> None:
    path = shared_dir("fixtures", "golden", name)
    case = path.parent.name
    found = import_file(path, tmp_path / "a.safetensors")
    assert found.kind == "checkpoint" and found.comparison is not None and found.comparison.worst <= 1e-5
    assert found.manifest.variant == ("R" if case == "w16_yuv422" else None)
    assert found.manifest.score_mode == golden_index()[case]["score_mode"]
    got = decoded(found, golden_array(case, "input.npy")[:1])
    if path.stem == "dynamic":  # its recorded outputs are of a larger picture, which the file itself resizes
        want = np.load(path.with_name("static_ort.npz"))
    else:
        want = np.load(path.with_name(f"{path.stem}_ort.npz"))
    if "score_classid_cxcywh" in want:
        assert row_difference(want["score_classid_cxcywh"][0], got["score_classid_cxcywh"][0]) <= 1e-5
    elif "cx" in want:
        boxes = np.stack([want[key].ravel() for key in ("cx", "cy", "bw", "bh")], 1)
        np.testing.assert_allclose(got["boxes"], boxes, atol=1e-5)
    elif "box" in want:
        for key in ("box", "quality", "cls"):
            np.testing.assert_allclose(got[key], want[key], atol=1e-5)
    if "wh_scale" in want:
        np.testing.assert_allclose(found.manifest.wh_scale, want["wh_scale"], rtol=1e-6)
        np.testing.assert_allclose(found.manifest.anchors, want["anchors"], rtol=1e-6)


def test_both_kinds_of_file_give_one_model(tmp_path: Path) -> None:
    """The checkpoint, and a file whose published concatenation scrambles its channels: cut before that, it is sound."""
    case = shared_dir("fixtures", "golden", "w16_yuv422")
    models = []
    for name in ("checkpoint.pt", "static_nopost.onnx"):
        import_file(case / name, tmp_path / f"{name}.safetensors")
        models.append(load_checkpoint(tmp_path / f"{name}.safetensors"))
    x = torch.from_numpy(golden_array("w16_yuv422", "input.npy"))
    names = ["box", "quality", "cls"]
    with torch.no_grad():
        a, b = (model.maps(x, names) for model, _ in models)
    assert max(float((a[name] - b[name]).abs().max()) for name in names) <= 1e-5
    keep = {"name", "weights_sha256", "training", "options"}
    first, second = (manifest.model_dump(exclude=keep) for _, manifest in models)
    assert first == second
    assert models[0][1].options | {"score_mode": None} == models[1][1].options | {"score_mode": None}
    assert json.loads((tmp_path / "static_nopost.onnx.json").read_text())["variant"] == "R"
