"""Tiny training runs for tests: a narrow network, small scenes, few steps."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore
from uhd.train.trainer import Trainer

#: The smallest network that trains: a few convolutions, normalised, and an anchor head.
NARROW: dict[str, Any] = {
    "arch": "cnn", "cnn_width": 4, "use_anchor": True, "output_stride": 8, "activation": "relu", "num_anchors": 3,
    "resize_mode": "opencv_inter_nearest_yuv422", "anchor_assigner": "aligned",
}  # fmt: skip


def tiny(**settings: Any) -> TrainConfig:
    """Four epochs of three steps of four photos, evaluated every other."""
    return TrainConfig(**{**NARROW, "epochs": 4, "batch_size": 4, "warmup_steps": 2, "eval_interval": 2, **settings})


def tensors_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything a run must continue with, but for the optimiser's own."""
    return {**trainer.learner.tensors(), **{f"sums/{k}": v for k, v in trainer.sums.items()}}


def assert_same_run(first: Trainer, second: Trainer) -> None:
    """Weights, averages, optimiser and metrics are equal to the bit."""
    mine, theirs = tensors_of(first), tensors_of(second)
    assert mine.keys() == theirs.keys()
    different = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    assert not different, f"{len(different)} tensors differ, e.g. {different[0]}"
    assert first.history == second.history and first.best == second.best
    assert first.learner.info() == second.learner.info()


def same_files(first: Path, second: Path, names: tuple[str, ...]) -> None:
    """These files of two run folders are equal to the byte."""
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def in_parts(config: TrainConfig, photos: PhotoStore, folder: Path) -> Trainer:
    """A run whose every epoch is trained by another ``Trainer``, as after a crash."""
    for epoch in range(config.epochs):
        part = Trainer(config, photos, photos, folder, resume=epoch > 0)
        part.run(stop_after=1)
    return part


def warm_up(folder: Path, photos: PhotoStore) -> None:
    """Load what a run loads and compile its convolutions here, where every fork finds them. Starts no threads."""
    for name in ("cv2", "hotcoco", "jinja2", "tensorboardX", "yaml", "uhd.train.report.page"):
        importlib.import_module(name)
    trainer = Trainer(tiny(batch_size=2), photos, photos, folder)
    batch = trainer.batches.batch(trainer.batches.order(0), 0, 0)
    if torch.cuda.is_available():  # a backward pass would start a thread for the GPU, and forks could not follow
        trainer.model.maps(batch.images)
    else:
        trainer.learner.learn(batch, 0)
