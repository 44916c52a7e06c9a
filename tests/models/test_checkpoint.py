"""Checkpoints: round trips, the manifest they complete, and every way in which a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.golden import with_recipe_weights
from uhd.errors import ModelError
from uhd.files import sha256_file
from uhd.manifest import ModelManifest
from uhd.models import variants_config
from uhd.models.checkpoint import complete_manifest, load_checkpoint, manifest_path, save_checkpoint
from uhd.models.ultratinyod import UltraTinyOD, UltraTinyODConfig

CONFIG = UltraTinyODConfig(width=2, in_channels=2, improved_head=True, iou_aware_head=True, quality_power=0.5)
MANIFEST = ModelManifest(name="tiny", input_height=48, input_width=80, training={"epochs": 3})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, with_recipe_weights(UltraTinyOD(CONFIG)), MANIFEST)
    return path


def test_round_trip(saved: Path) -> None:
    model, manifest = load_checkpoint(saved)
    assert not model.training
    expected = with_recipe_weights(UltraTinyOD(CONFIG)).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert model.config.with_anchors(CONFIG.anchors) == CONFIG
    assert (manifest.input_height, manifest.input_width, manifest.training) == (48, 80, {"epochs": 3})


def test_manifest_is_completed_from_the_model(saved: Path) -> None:
    model, manifest = load_checkpoint(saved)
    assert manifest.weights_sha256 == sha256_file(saved)
    assert manifest.score_mode == "quality_cls"
    assert manifest.quality_power == 0.5
    assert torch.equal(torch.tensor(manifest.wh_scale), model.wh_scale)
    assert torch.equal(torch.tensor(manifest.anchors), model.anchors)
    assert UltraTinyODConfig.model_validate(manifest.options) == CONFIG
    assert manifest.stride == 8


def test_same_weights_same_bytes(saved: Path, tmp_path: Path) -> None:
    model, manifest = load_checkpoint(saved)
    other = tmp_path / "b" / "tiny.safetensors"
    save_checkpoint(other, model.train(), manifest)
    assert other.read_bytes() == saved.read_bytes()
    assert json.loads(manifest_path(other).read_text()) == json.loads(manifest_path(saved).read_text()) | {
        "options": model.config.options()
    }


def test_changed_anchors_are_saved(tmp_path: Path) -> None:
    model = UltraTinyOD(CONFIG)
    model.set_anchors(torch.rand(5, 2) + 0.1)
    save_checkpoint(tmp_path / "a.safetensors", model, MANIFEST)
    again, manifest = load_checkpoint(tmp_path / "a.safetensors")
    assert again.config.anchor_count == len(manifest.anchors) == 5
    assert torch.equal(again.anchors, model.anchors)


def test_shipped_variants_fit_the_format(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    save_checkpoint(path, UltraTinyOD(variants_config("R")), ModelManifest(name="r", variant="R"))
    model, manifest = load_checkpoint(path)
    assert manifest.variant == "R"
    assert sum(p.numel() for p in model.parameters()) == 138_200


def test_colour_contract_must_fit_the_model() -> None:
    manifest = MANIFEST.model_copy(update={"resize_mode": "opencv_inter_nearest"})
    with pytest.raises(ModelError, match="makes 3 channels, but the model takes 2"):
        complete_manifest(UltraTinyOD(CONFIG), manifest)


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message


def test_missing_files(saved: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.safetensors", "cannot read the checkpoint")
    refused(tmp_path, "cannot read the checkpoint")
    manifest_path(saved).unlink()
    refused(saved, "cannot read the manifest")


@pytest.mark.parametrize("content", [b"", b"{", b"hello world, not a model", b"PK\x03\x04 broken zip", b"\x80\x02."])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    refused(path, "damaged|holds")


def test_manifest_of_other_weights(saved: Path) -> None:
    manifest = json.loads(manifest_path(saved).read_text())
    manifest_path(saved).write_text(json.dumps(manifest | {"weights_sha256": "0" * 64}))
    refused(saved, "describes other weights")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"options": {"width": 2, "colour": "red"}}, "option colour"),
        ({"options": {}}, "weights do not fit the architecture"),
        ({"architecture": "resnet"}, "manifest key architecture"),
    ],
)
def test_manifest_of_another_architecture(saved: Path, change: dict[str, object], match: str) -> None:
    manifest = json.loads(manifest_path(saved).read_text())
    manifest_path(saved).write_text(json.dumps(manifest | change))
    refused(saved, match)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: t.pop("head.box_out.weight"), r"1 missing \(e.g. head.box_out.weight\)"),
        (lambda t: t.update(extra=torch.ones(1)), r"1 unknown \(e.g. extra\)"),
        (lambda t: t.update({"head.box_out.bias": torch.ones(3)}), r"1 of another shape \(e.g. head.box_out.bias\)"),
        (lambda t: t["head.box_out.bias"].fill_(float("nan")), "head.box_out.bias holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit(saved: Path, edit: object, match: str) -> None:
    tensors = safetensors.torch.load_file(saved)
    edit(tensors)
    safetensors.torch.save_file(tensors, saved)
    manifest = json.loads(manifest_path(saved).read_text())
    manifest_path(saved).write_text(json.dumps(manifest | {"weights_sha256": sha256_file(saved)}))
    refused(saved, match)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_always_noticed(saved: Path, data: st.DataObject) -> None:
    """A flipped bit or a missing tail never loads, and never raises anything else."""
    good = saved.read_bytes()
    bad = bytearray(good)
    if data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(bad) - 1))
        bad[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del bad[data.draw(st.integers(0, len(bad) - 1)) :]
    broken = saved.with_name("broken.safetensors")
    broken.write_bytes(bytes(bad))
    manifest_path(broken).write_bytes(manifest_path(saved).read_bytes())
    refused(broken, "damaged|describes other weights|holds")


def test_a_failed_save_leaves_the_old_checkpoint(saved: Path) -> None:
    before = saved.read_bytes(), manifest_path(saved).read_bytes()
    three_channels = UltraTinyOD(UltraTinyODConfig(width=2))
    with pytest.raises(ModelError):
        save_checkpoint(saved, three_channels, MANIFEST)
    assert (saved.read_bytes(), manifest_path(saved).read_bytes()) == before
    assert sorted(p.name for p in saved.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]
