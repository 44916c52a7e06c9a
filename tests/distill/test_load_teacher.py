"""Teachers from files."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from uhd.errors import ConfigError, ModelError, UhdError
from uhd.manifest import ModelManifest
from uhd.models import build_model
from uhd.models.checkpoint import save_checkpoint
from uhd.models.detector import Detector
from uhd.train.config.objective import Distillation
from uhd.train.distill import Distiller, DistillSettings, Teacher, load_teacher

torch.set_num_threads(1)

PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
MODELS: dict[str, dict[str, Any]] = {
    "ultratinyod": {"width": 4},
    "cnn": {"cnn_width": 8},
    "transformer": {"d_model": 16, "heads": 4, "layers": 1, "dim_feedforward": 8, "num_queries": 3},
}


def made(arch: str, seed: int = 0, **options: Any) -> Detector:
    torch.manual_seed(seed)
    return build_model(arch, {**MODELS[arch], **options}).eval()


def saved(path: Path, model: Detector, mode: str = "opencv_inter_nearest") -> Path:
    manifest = ModelManifest(
        name="x",
        class_names=["person"],
        input_height=16,
        input_width=16,
        resize_mode=mode,  # type: ignore[arg-type]
    )
    save_checkpoint(path, model, manifest)
    return path


def same_maps(first: Detector, second: Detector) -> bool:
    ours, theirs = first.maps(PICTURE), second.maps(PICTURE)
    return all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


@pytest.mark.parametrize("arch", MODELS)
def test_our_checkpoints(tmp_path: Path, arch: str) -> None:
    path = saved(tmp_path / "teacher.safetensors", made(arch))
    teacher = load_teacher(path, DistillSettings(teacher_arch=arch), made(arch, 1).config)
    assert same_maps(teacher.model, made(arch))
    assert teacher.resize_mode == "opencv_inter_nearest" and str(path) == teacher.name
    with pytest.raises(ConfigError, match=f"holds a {arch}"):
        load_teacher(path, DistillSettings(teacher_arch="cnn" if arch != "cnn" else "ultratinyod"))


def test_published_file_gives_its_averaged_weights(tmp_path: Path) -> None:
    plain, averaged = made("ultratinyod", 1), made("ultratinyod", 2)
    stored = {"arch": "ultratinyod", "model": plain.state_dict(), "ema": averaged.state_dict(), "use_ema": True}
    torch.save(stored | {"resize_mode": "opencv_inter_nearest"}, tmp_path / "best.pt")
    assert same_maps(load_teacher(tmp_path / "best.pt", DistillSettings()).model, averaged)


def test_published_transformer_is_told_its_heads(tmp_path: Path) -> None:
    model = made("transformer", heads=2)
    torch.save({"arch": "transformer", "model": model.state_dict(), "activation": "swish"}, tmp_path / "tf.pt")
    told = DistillSettings(teacher_heads=2, teacher_d_model=16, teacher_layers=1, teacher_num_queries=3)
    assert same_maps(load_teacher(tmp_path / "tf.pt", told).model, model)
    assert not same_maps(load_teacher(tmp_path / "tf.pt", DistillSettings()).model, model)
    for wrong in ({"teacher_d_model": 8}, {"teacher_layers": 2}, {"teacher_num_queries": 4}, {"teacher_use_fpn": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))) as caught:
            load_teacher(tmp_path / "tf.pt", DistillSettings(**wrong))
        assert "\n" not in str(caught.value)


def test_overrides_that_leave_no_trace_in_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "teacher.safetensors", made("cnn", activation="silu"))
    changed = load_teacher(path, DistillSettings(teacher_activation="relu")).model
    assert same_maps(changed, made("cnn", activation="relu")) and not changed.training
    assert same_maps(load_teacher(path, DistillSettings(teacher_activation="swish")).model, made("cnn"))
    assert same_maps(load_teacher(path, DistillSettings(teacher_use_skip=True)).model, made("cnn", use_skip=True))
    with pytest.raises(ConfigError, match="teacher_heads"):
        load_teacher(path, DistillSettings(teacher_heads=4))


def test_pair_is_checked_before_training(tmp_path: Path) -> None:
    path = saved(tmp_path / "teacher.safetensors", made("ultratinyod", anchors=[[0.1, 0.2]]))
    student = made("ultratinyod").config
    with pytest.raises(ConfigError, match="1 anchors, the student 3"):
        load_teacher(path, DistillSettings(distill_obj=1.0), student)
    takes = DistillSettings(distill_obj=1.0, override_from_teacher_anchors=True)
    teacher = load_teacher(path, takes, student)
    model = made("ultratinyod")
    model.set_anchors(teacher.anchors)  # type: ignore[operator]
    assert not Distiller(takes, teacher, model).warnings
    with pytest.raises(ConfigError, match="no anchors"):
        _ = Teacher(made("cnn")).anchors


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(b"PK\x03\x04 and nothing more")
    for name in ("absent.pt", "noise.pt"):
        with pytest.raises(UhdError, match=name) as caught:
            load_teacher(tmp_path / name, DistillSettings())
        assert "\n" not in str(caught.value)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_a_pickle_bomb_does_not_go_off(tmp_path: Path) -> None:
    marker = tmp_path / "went-off"
    torch.save({"model": made("ultratinyod").state_dict(), "x": Bomb(marker)}, tmp_path / "bomb.pt")
    with pytest.raises(ModelError, match=r"bomb\.pt"):
        load_teacher(tmp_path / "bomb.pt", DistillSettings())
    assert not marker.exists()


def test_every_flag_is_a_setting() -> None:
    names = {field.name for field in fields(DistillSettings)}
    files = {"teacher_ckpt", "teacher_backbone"}
    assert set(Distillation.model_fields) - files <= names
