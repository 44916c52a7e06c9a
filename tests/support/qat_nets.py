"""Small detectors to train on a chip's grid, and the comparison of such a model with the file it becomes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from support.quantize_nets import ANCHORS
from uhd.data.synthetic import make_scene
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.export.onnx_export import export_onnx
from uhd.image.resize import resize_image
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import load_checkpoint, save_checkpoint
from uhd.models.families import family_config
from uhd.models.ultratinyod import UltraTinyOD
from uhd.quantize import child
from uhd.quantize.adapter import Report, quantize_input, quantize_with_report
from uhd.quantize.job import JobFolder
from uhd.quantize.settings import Settings
from uhd.train.qat.model import QatModel
from uhd.train.qat.prepare import finish, prepare, with_record
from uhd.train.qat.settings import QatSettings

SIDE = 32
MODES = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest"}


def run_here(folder: JobFolder, _source: Path, _progress: object) -> child.Answer:
    """Quantize in this process instead of a new one, which would take seconds to load torch."""
    from uhd.quantize.engine import quantize

    text = (folder.root / "job.json").read_text()
    assert json.loads(text)["target"]
    selection, rewrites = quantize(folder, lambda step, done, total: None)
    return child.Answer(selection.int16, selection.notes, rewrites)


def scenes(count: int, channels: int = 2, first: int = 0) -> NDArray[np.float32]:
    """Network inputs [count, channels, SIDE, SIDE] of generated scenes."""
    made = []
    for seed in range(first, first + count):
        image = resize_image(make_scene(seed, size=(64, 64))[0], (SIDE, SIDE), MODES[channels])
        made.append(np.atleast_3d(image).transpose(2, 0, 1))
    return np.ascontiguousarray(np.stack(made), np.float32)


def network(family: str = "current_yuv422", seed: int = 3, **options: Any) -> UltraTinyOD:
    """A network of width 4 whose normalisation has seen scenes, and whose maps vary by more than a step of 8 bits."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    made = UltraTinyOD(family_config(family, 4, anchors=ANCHORS, **options)).train()
    images = torch.from_numpy(scenes(8, made.config.in_channels))
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(6):
            made.maps(images)
        for name, module in made.head.named_modules():
            if name.endswith("_out"):
                module.weight.mul_(8)
                module.bias.zero_()
    return made


def prepared(settings: QatSettings, family: str = "current_yuv422", **options: Any) -> QatModel:
    """A network ready for training."""
    made = network(family, **options)
    return prepare(made, settings, scenes(8, made.config.in_channels))


def train(model: QatModel, epochs: int = 3, steps: int = 2, rate: float = 1e-2) -> list[float]:
    """A few steps towards fixed maps; every epoch is announced. Returns the losses."""
    images = torch.from_numpy(scenes(8, model.config.in_channels))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for epoch in range(1, epochs + 1):
        model.on_epoch(epoch)
        model.train()
        for _ in range(steps):
            maps = model.maps(images)
            loss = torch.stack([(part - 1).abs().mean() for part in maps.values()]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@dataclass(frozen=True)
class Deployed:
    """What became of a trained model."""

    report: Report
    espdl: EspdlModel
    manifest: ModelManifest
    folder: Path


def deploy(model: QatModel, folder: Path, settings: Settings) -> Deployed:
    """Save the checkpoint with its record, load it, export it, quantize it: the way a user goes."""
    plain, trained = finish(model)
    mode = MODES[plain.config.in_channels]
    manifest = ModelManifest(name="trained", resize_mode=mode, input_height=SIDE, input_width=SIDE)  # type: ignore[arg-type]
    save_checkpoint(folder / "best.safetensors", plain, with_record(manifest, trained))
    loaded, manifest = load_checkpoint(folder / "best.safetensors")
    export_onnx(loaded, manifest, folder / "best.onnx", verify=False)
    pictures = scenes(3, plain.config.in_channels, first=50)
    report = quantize_with_report(folder / "best.onnx", folder / "best_chip.espdl", pictures, manifest, settings)
    espdl = read_espdl(report.espdl.read_bytes(), settings.target)
    return Deployed(report, espdl, manifest, folder)


def differing_integers(model: QatModel, espdl: EspdlModel, pictures: NDArray[np.float32]) -> tuple[int, int]:
    """(integers of all activations that the oracle and the model's evaluation differ in, integers compared)."""
    requantized = {node.outputs[0] for node in espdl.nodes if node.op == "RequantizeLinear"}
    names = [node.outputs[0] for node in espdl.nodes if node.outputs[0] not in requantized]
    model.eval()
    with torch.no_grad():
        values = model.activations(torch.from_numpy(pictures), names)
    differ = total = 0
    for index, picture in enumerate(pictures):
        integers = oracle.run(espdl, quantize_input(espdl, picture), keep_all=True)
        for name in names:
            mine = values[name][index].numpy().transpose(1, 2, 0) * 2.0 ** -espdl.tensors[name].exponent
            differ += int(np.count_nonzero(mine != integers[name][0]))
            total += mine.size
    return differ, total


@pytest.fixture
def quantizer_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the quantizer run in this process."""
    monkeypatch.setattr(child, "run", run_here)
