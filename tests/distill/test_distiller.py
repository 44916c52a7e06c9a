"""The distiller with real students and teachers of every architecture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from support import tiny_vit
from uhd.errors import ConfigError
from uhd.image.colour import luma_u8, yuv422_u8
from uhd.models import build_model
from uhd.models.detector import Detector
from uhd.models.dinov3 import VisionTransformer
from uhd.models.dinov3_weights import infer_config
from uhd.models.weights import load_weights
from uhd.train.distill import Distiller, DistillSettings, Teacher

torch.set_num_threads(1)

ALL = {"distill_kl": 1.0, "distill_box_l1": 1.0, "distill_obj": 1.0, "distill_quality": 1.0}
TWO = {"distill_kl": 1.0, "distill_box_l1": 1.0}
SIZE = (16, 24)


def lively(arch: str, seed: int, options: dict[str, Any], gain: float = 2.5) -> Detector:
    """A model whose outputs differ from cell to cell, which those of a fresh one hardly do."""
    model = build_model(arch, options)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=generator) * (gain / fan**0.5)
    return model


def utod(seed: int = 0, *, gain: float = 2.5, **options: Any) -> Detector:
    fields = {"width": 4, "num_classes": 2, "improved_head": True, "iou_aware_head": True, "batchnorm": False}
    return lively("ultratinyod", seed, {**fields, **options}, gain)


def cnn(seed: int = 0, **options: Any) -> Detector:
    return lively("cnn", seed, {"cnn_width": 8, "num_classes": 2, "output_stride": 8, **options})


def detr(seed: int = 0, **options: Any) -> Detector:
    fields = {"num_queries": 4, "d_model": 8, "heads": 2, "layers": 1, "dim_feedforward": 8, "num_classes": 2}
    return lively("transformer", seed, {**fields, **options})


def vit(seed: int = 0) -> VisionTransformer:
    state = tiny_vit.weights(False, seed)
    model = VisionTransformer(infer_config(state, "vit"))
    load_weights(model, state, strict=False)
    return model


def images(channels: int = 3, seed: int = 9) -> Tensor:
    return torch.rand(2, channels, *SIZE, generator=torch.Generator().manual_seed(seed))


def step(distiller: Distiller, student: Detector, seen: Tensor, rgb: Tensor | None = None, epoch: int = 0) -> dict:
    maps = student.maps(seen, distiller.map_names)
    features = student.features(seen) if distiller.needs_features else None
    return distiller.losses(maps, features, seen, epoch, 4, rgb)


def grads(model: torch.nn.Module) -> list[float]:
    return [float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None]


PAIRS = {
    "ultratinyod": (utod, {}, ALL),
    "ultratinyod-wider-finer": (utod, {"width": 6, "out_stride": 4}, ALL),
    "cnn-anchor": (lambda s=0, **o: cnn(s, use_anchor=True, **o), {}, {**TWO, "distill_obj": 1.0}),
    "cnn-centre": (cnn, {"output_stride": 4}, TWO),
    "transformer": (detr, {"d_model": 12}, TWO),
}


@pytest.mark.parametrize("mode", ["default", "reference"])
@pytest.mark.parametrize("pair", PAIRS)
def test_student_learns_and_teacher_does_not(pair: str, mode: str) -> None:
    make, options, weights = PAIRS[pair]
    student, teacher = make(1), make(2, **options)
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    settings = DistillSettings(**weights, distill_feat=1.0, loss_mode=mode)  # type: ignore[arg-type]
    distiller = Distiller(settings, teacher, student)
    found = step(distiller, student.eval(), images())
    assert set(found) == {*weights, "distill_feat"} and not teacher.training
    assert all(torch.isfinite(value) for value in found.values())
    if mode == "default":
        assert all(value > 0 for value in found.values())
    torch.stack(list(found.values())).sum().backward()
    assert grads(student) and max(grads(student)) > 0
    assert not grads(teacher) and all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in distiller.parameters())
    assert bool(list(distiller.parameters())) == ("wider" in pair or pair == "transformer")


@pytest.mark.parametrize("pair", PAIRS)
def test_copy_of_the_teacher_pays_nothing(pair: str) -> None:
    make, _, weights = PAIRS[pair]
    teacher = make(3)
    student = copy.deepcopy(teacher).eval()
    found = step(Distiller(DistillSettings(**weights, distill_feat=1.0), teacher, student), student, images())
    assert all(value.item() == pytest.approx(0, abs=1e-6) for value in found.values())
    # attention rounds otherwise where no gradient is asked for, and an absolute difference has a slope next to zero
    smooth = [value for name, value in found.items() if pair != "transformer" or name == "distill_kl"]
    torch.stack(smooth).sum().backward()
    assert max(grads(student)) < 1e-4


def test_a_few_steps_bring_the_student_closer() -> None:
    teacher, student = utod(1, gain=1.6), utod(2, gain=1.6).eval()
    distiller = Distiller(DistillSettings(**ALL, distill_feat=1.0), teacher, student)
    parameters = [*student.parameters(), *distiller.parameters()]
    losses = []
    for _ in range(10):
        total = torch.stack(list(step(distiller, student, images()).values())).sum()
        losses.append(total.item())
        slopes = torch.autograd.grad(total, parameters, allow_unused=True)
        length = torch.stack([slope.norm() for slope in slopes if slope is not None]).norm()
        for parameter, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                parameter.data -= 0.1 * slope / length
    assert losses[-1] < 0.9 * losses[0]


def test_weights_ramp_and_names() -> None:
    teacher, student = utod(1), utod(2).eval()
    one = step(Distiller(DistillSettings(**ALL), teacher, student), student, images())
    half = DistillSettings(distill_obj=0.5, distill_cosine=True)
    distiller = Distiller(half, teacher, student)
    assert distiller.map_names == {"obj"} and not distiller.needs_features and not distiller.needs_rgb
    for epoch in range(4):
        found = step(distiller, student, images(), epoch=epoch)
        assert set(found) == {"distill_obj"}
        assert found["distill_obj"].item() == pytest.approx(0.5 * half.scale(epoch, 4) * one["distill_obj"].item())


def test_gathered_halves_are_the_whole_batch() -> None:
    """Processes that each run the teacher on their rows and gather get the loss of one process."""
    teacher, student = utod(1, width=6), utod(2).eval()
    distiller = Distiller(DistillSettings(**ALL, distill_feat=1.0), teacher, student)
    whole = step(distiller, student, images())
    maps, projected = student.maps(images(), distiller.map_names), distiller.project(student.features(images()))
    parts = [distiller.targets(images()[row : row + 1]) for row in range(2)]
    targets = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    again = distiller.compare(maps, projected, targets, 0, 4)
    assert all(again[name].item() == pytest.approx(whole[name].item(), rel=1e-4) for name in whole)


@pytest.mark.parametrize(
    ("own", "mode", "theirs", "teacher_mode"),
    [
        (2, "opencv_inter_nearest_yuv422", 3, "opencv_inter_nearest"),
        (2, None, 3, None),
        (3, "torch_bilinear", 2, "opencv_inter_nearest_yuv422"),
        (2, "opencv_inter_nearest_yuv422", 1, "opencv_inter_nearest_y"),
        (1, "opencv_inter_nearest_y", 1, "opencv_inter_nearest_y_tri"),
    ],
)
def test_teacher_of_other_colours(own: int, mode: str | None, theirs: int, teacher_mode: str | None) -> None:
    teacher, student = utod(1, in_channels=theirs), utod(2, in_channels=own).eval()
    settings = DistillSettings(**ALL)
    distiller = Distiller(settings, Teacher(teacher, teacher_mode), student, resize_mode=mode)
    assert distiller.needs_rgb
    rgb = (images() * 255).round() / 255
    byte = (rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    if theirs == 3:
        seen = rgb
    elif theirs == 2:
        seen = yuv422_u8(byte).permute(0, 3, 1, 2).float() / 255
    else:
        luma = luma_u8(byte)[:, None].float()
        seen = (luma * 3 / 255).floor().clamp(max=2) / 2 if (teacher_mode or "").endswith("tri") else luma / 255
    for name, value in distiller.targets(images(own), rgb).items():
        assert torch.allclose(value, teacher.maps(seen)[name], atol=1e-6), name
    with pytest.raises(ValueError, match="rgb"):
        distiller.targets(images(own))
    assert set(step(distiller, student, images(own), rgb)) == set(ALL)


def test_same_colours_need_no_rgb() -> None:
    teacher, student = utod(1, in_channels=2), utod(2, in_channels=2)
    distiller = Distiller(
        DistillSettings(**ALL), Teacher(teacher, "opencv_inter_nearest_yuv422"), student,
        resize_mode="opencv_inter_nearest_yuv422",
    )  # fmt: skip
    assert not distiller.needs_rgb
    assert torch.equal(distiller.targets(images(2))["obj"], teacher.maps(images(2))["obj"])


@pytest.mark.parametrize("own", [2, 3])
@pytest.mark.parametrize("enlarge", [False, True])
def test_features_of_a_vision_transformer(own: int, enlarge: bool) -> None:
    student, backbone = utod(2, in_channels=own).eval(), vit()
    settings = DistillSettings(distill_feat=1.0, teacher_backbone_upsample=enlarge)
    distiller = Distiller(settings, None, student, backbone=backbone)
    assert distiller.needs_rgb == (own == 2) and not distiller.map_names and distiller.needs_features
    seen = images(own)
    rgb = images(3) if own == 2 else None
    targets = distiller.targets(seen, rgb)
    shown = seen if rgb is None else rgb
    # cells of the student are 8 pixels, patches of the backbone 4
    grid = (2, 3) if enlarge else None
    assert torch.equal(targets["features"], backbone(shown, grid))
    found = step(distiller, student, seen, rgb)
    found["distill_feat"].backward()
    assert found.keys() == {"distill_feat"} and not grads(backbone)
    assert all(p.grad is not None for p in distiller.parameters()) and max(grads(student)) > 0


def test_backbone_goes_before_the_teachers_features() -> None:
    student, backbone = utod(2).eval(), vit()
    distiller = Distiller(DistillSettings(**ALL, distill_feat=1.0), utod(1), student, backbone=backbone)
    found = distiller.targets(images())
    assert torch.equal(found["features"], backbone(images())) and "obj" in found


def test_adapter_is_kept() -> None:
    teacher, student = utod(1, width=6), utod(2).eval()
    settings = DistillSettings(distill_feat=1.0)
    first, second = Distiller(settings, teacher, student), Distiller(settings, teacher, student)
    state = first.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"weight": (24, 16, 1, 1), "bias": (24,)}
    assert step(first, student, images())["distill_feat"] != step(second, student, images())["distill_feat"]
    second.load_state_dict(state)
    assert step(first, student, images())["distill_feat"] == step(second, student, images())["distill_feat"]
    assert Distiller(settings, utod(1), student).state_dict() == {}
    with pytest.raises(ConfigError, match="adapter"):
        Distiller(settings, utod(1, width=7), student).load_state_dict(state)


REFUSED = {
    "classes": (utod(1, num_classes=3), utod(2), ALL, "3 classes, the student 2"),
    "classless": (utod(1, disable_cls=True), utod(2), ALL, "0 classes"),
    "anchors": (utod(1, anchors=[[0.1, 0.2]]), utod(2), ALL, "override_from_teacher_anchors"),
    "heads": (cnn(1), utod(2), TWO, "centernet"),
    "queries": (detr(1, num_queries=5), detr(2), TWO, "num_queries 5"),
    "quality": (cnn(1, use_anchor=True, anchors=[[0.1, 0.2]] * 3), utod(2), ALL, "teacher has no quality"),
    "no classes": (utod(1, disable_cls=True), utod(2, disable_cls=True), ALL, "no classes"),
    "centre": (cnn(1), cnn(2), {"distill_obj": 1.0}, "centernet head has no such output"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pairs_that_do_not_correspond(case: str) -> None:
    teacher, student, weights, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        Distiller(DistillSettings(**weights), teacher, student)
    assert str(caught.value).startswith("distill_") and "\n" not in str(caught.value)
    lenient = Distiller(DistillSettings(**weights, distill_feat=1.0, loss_mode="reference"), teacher, student)
    assert lenient.warnings[0].startswith("left out: ")
    found = step(lenient, student.eval(), images())
    expected = {"quality": ALL.keys() - {"distill_quality"}, "no classes": ALL.keys() - {"distill_kl"}}
    assert found.keys() == {"distill_feat", *expected.get(case, ())}


def test_weights_without_a_teacher() -> None:
    with pytest.raises(ConfigError, match="teacher_ckpt"):
        Distiller(DistillSettings(distill_kl=1.0), None, utod())
    with pytest.raises(ConfigError, match="teacher_backbone"):
        Distiller(DistillSettings(distill_feat=1.0), None, utod())
    assert Distiller(DistillSettings(), None, utod()).losses({}, None, images(), 0, 1) == {}


def test_other_anchors_are_told() -> None:
    boxes = [[0.1, 0.2], [0.3, 0.3], [0.5, 0.5]]
    distiller = Distiller(DistillSettings(**ALL), utod(1, anchors=boxes), utod(2))
    assert any("override_from_teacher_anchors" in line for line in distiller.warnings)
    assert not Distiller(DistillSettings(**ALL), utod(1), utod(2)).warnings


def test_low_precision_outputs_are_compared_in_float32() -> None:
    teacher, student = utod(1, gain=1.6), utod(2, gain=1.6).eval()
    distiller = Distiller(DistillSettings(**ALL, distill_feat=1.0), teacher, student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = step(distiller, student, images())
    plain = step(distiller, student, images())
    assert all(value.dtype == torch.float32 for value in found.values())
    assert all(found[name].item() == pytest.approx(plain[name].item(), rel=0.1) for name in plain)


def test_settings_from_a_configuration() -> None:
    class Config:
        distill_kl = 0.5
        teacher_heads = 2

    assert DistillSettings.from_config(Config()) == DistillSettings(distill_kl=0.5, teacher_heads=2)
    assert not DistillSettings().active and DistillSettings(distill_feat=0.1).active
