"""Recorded one-step logs of the reference's distillation."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from support.golden import with_recipe_weights
from support.shared import shared_dir
from uhd.models.config import UltraTinyODConfig
from uhd.models.ultratinyod import UltraTinyOD
from uhd.train.distill import Distiller, DistillSettings

ANCHORS = (
    (0.043750, 0.094437), (0.141667, 0.394426), (0.193750, 0.540625), (0.254172, 0.636096),
    (0.320819, 0.708333), (0.414578, 0.762981), (0.531250, 0.833326), (0.739375, 0.916667),
)  # fmt: skip
ON = {"distill_kl": 1.0, "distill_box_l1": 0.05, "distill_obj": 0.1, "distill_quality": 0.1}


def logged(name: str) -> dict[str, float]:
    return json.loads(shared_dir("fixtures", "losses", "distill.json").read_text())["results"][name]


def images() -> torch.Tensor:
    pixels = np.random.RandomState(321).uniform(0, 1, (2, 3, 64, 64))  # noqa: NPY002 - the recording's generator
    return torch.from_numpy(pixels.astype(np.float32))


def model(width: int, classes: int, stride: int = 8) -> UltraTinyOD:
    config = UltraTinyODConfig(
        width=width, num_classes=classes, out_stride=stride, anchors=ANCHORS, activation="relu",  # type: ignore[arg-type]
        residual=True, improved_head=True, iou_aware_head=True, head_ese=True,
    )  # fmt: skip
    return with_recipe_weights(UltraTinyOD(config)).eval()


def terms(student: UltraTinyOD, teacher: UltraTinyOD, epoch: int, epochs: int, **settings: Any) -> dict[str, float]:
    distiller = Distiller(DistillSettings(loss_mode="reference", **settings), teacher, student)
    found = distiller.losses(student.maps(images()), None, images(), epoch, epochs)
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("case", ["T1.0", "T1.5", "cos_e3of10"])
def test_terms_and_their_sum(classes: int, case: str) -> None:
    plain, log = logged(f"utod_nc{classes}_base"), logged(f"utod_nc{classes}_all_{case}")
    temperature = 1.0 if case == "T1.0" else 1.5
    found = terms(
        model(8, classes), model(16, classes), 3, 10, **ON, distill_temperature=temperature,
        distill_cosine=case.startswith("cos"),
    )  # fmt: skip
    assert sum(found.values()) == pytest.approx(log["loss"] - plain["loss"], abs=1e-5)
    scale = 0.5 * (1 - np.cos(np.pi * 0.4)) if case.startswith("cos") else 1.0
    for name, weight in ON.items():  # the recording logs terms before weight and ramp
        assert found[name] / (weight * scale) == pytest.approx(log[name], abs=1e-5), name


def test_teacher_of_a_finer_grid() -> None:
    log = logged("utod_teacher_stride4")  # its boxes were recorded with anchors that the log does not tell
    found = terms(model(8, 1), model(8, 1, 4), 0, 1, distill_kl=1.0, distill_obj=1.0, distill_quality=1.0)
    for name, value in found.items():
        assert value == pytest.approx(log[name], abs=1e-5), name
    assert len(found) == 3
