"""Evaluating a checkpoint without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uhd.models.checkpoint import load_checkpoint
from uhd.quantize.trained import FIELD
from uhd.train.config import TrainConfig
from uhd.train.distributed import Team
from uhd.train.evaluate import Validation, figures
from uhd.train.outputs import write_evaluation, write_page
from uhd.train.photos import PhotoStore
from uhd.train.progress import Watcher
from uhd.train.records import RunFolder, machine

FOLDER = "val_only"


def evaluate_checkpoint(
    config: TrainConfig,
    store: PhotoStore,
    names: list[str],
    output: Path,
    device: str,
    data_name: str,
    watcher: Watcher,
) -> dict[str, Any]:
    """mAP of the checkpoint ``config.ckpt`` over ``store``; figures, pictures and report go to ``output/val_only``."""
    assert config.ckpt is not None, "the settings see to that"
    path = Path(config.ckpt)
    model, manifest = load_checkpoint(path)
    if FIELD in manifest.training:
        watcher.say(
            "these are the float weights of a run on the chip's grid: quantize, then parity, measures its integers"
        )
    model.to(device)
    validation = Validation(store.to(device), config)
    found = validation.run(model, Team())
    folder = RunFolder(output / FOLDER)
    folder.hold()
    try:
        row = figures(found[0], config)
        folder.write_settings(config)
        folder.log(f"{path.name} on {len(store)} photos of {data_name}, {machine(next(model.parameters()).device)}")
        folder.log(f"val-only: {row}")
        info = {"checkpoint": path.name, "data": data_name, "photos": len(store)}
        write_evaluation(folder.path, validation, names, found, model, info)
        write_page(folder.path)
    finally:
        folder.release()
    watcher.say(f"figures, pictures and report.html are in {folder.path}")
    return {"checkpoint": str(path), "photos": len(store), **row, "folder": str(folder.path)}
