"""Running checkpoints: weights of ours, and published ``.pt`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uhd.export.flavours import frozen
from uhd.export.metadata import channel_names, input_name, score_maps
from uhd.export.record import ExportRecord, Port
from uhd.infer.engines import FloatEngine
from uhd.infer.options import ModelOptions, checked
from uhd.models.checkpoint import load_checkpoint
from uhd.models.detector import Detector


class TorchNetwork:
    """A model in evaluation mode on the CPU; any number of pictures at once."""

    batch: int | None = None

    def __init__(self, model: Detector, names: list[str]) -> None:
        self._model, self._names = frozen(model), names

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            maps = self._model.maps(torch.from_numpy(images), self._names)
        return {name: values.numpy() for name, values in maps.items()}


def open_checkpoint(path: Path, options: ModelOptions) -> FloatEngine:
    """The engine of a checkpoint, with the maps of its score mode. Raises as ``load_checkpoint`` does."""
    model, manifest = load_checkpoint(path)
    config = model.config
    if options.size is not None:
        manifest = manifest.model_copy(update={"input_height": options.size[0], "input_width": options.size[1]})
    fields = list(config.map_names if options.score_mode else config.maps_for())
    fields = [name for name in fields if name != "attr"]
    shape = [1, manifest.input_channels, manifest.input_height, manifest.input_width]
    record = ExportRecord(
        flavour="parts",
        head=config.head,
        input=Port(name=input_name(manifest.resize_mode), shape=shape),
        channels=channel_names(manifest.resize_mode),
        outputs=[Port(name=name, shape=[]) for name in fields],
        fields=fields,
        score_maps=score_maps(config),
    )
    return FloatEngine(TorchNetwork(model, fields), record, checked(path, manifest, record, options), "checkpoint")
