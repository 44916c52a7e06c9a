"""What an evaluation leaves for people to look at: figures, sample pictures, heatmaps, and the report of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uhd.errors import UhdError
from uhd.train.config import TrainConfig
from uhd.train.evaluate import Found, Validation
from uhd.train.photos import PhotoStore
from uhd.train.report import evaluation as evaluations
from uhd.train.report import write_report
from uhd.train.report.heatmaps import record, write_heatmaps
from uhd.train.report.pictures import input_picture, write_samples

#: Photos that are drawn.
DRAWN = 10
SAMPLES = "samples"

Rgb = NDArray[np.uint8]


def photo(store: PhotoStore, number: int) -> Rgb:
    """Photo ``number`` as RGB uint8 [H,W,3]."""
    height, width = store.sizes[number].tolist()
    first = int(store.start[number])
    return store.pixels[first : first + height * width].reshape(height, width, 3).cpu().numpy()


def class_names(config: TrainConfig) -> list[str]:
    """Names of the network's classes: a single one is a person."""
    return ["person"] if len(config.det_ids) == 1 else [f"class{number}" for number in config.det_ids]


class Gallery:
    """What people see of validation photos: themselves, or with ``val_aug_config`` the network's input."""

    def __init__(self, validation: Validation) -> None:
        self.validation = validation
        self.changed = bool(validation.config.val_aug_config)

    def inputs(self, numbers: Sequence[int]) -> torch.Tensor:
        """The network's input of some photos, [B,C,h,w]."""
        return self.validation.batch(torch.as_tensor(numbers)).images

    def picture(self, number: int) -> Rgb:
        """RGB uint8 [H,W,3] on which the boxes of photo ``number`` lie."""
        if not self.changed:
            return photo(self.validation.store, number)
        return input_picture(self.inputs([number])[0].cpu().numpy(), self.validation.config.resize_mode)


def write_evaluation(
    folder: Path,
    validation: Validation,
    names: Sequence[str],
    found: Found,
    model: Any,
    info: Mapping[str, Any],
) -> None:
    """Write ``evaluation.npz`` and ``.json``, ``samples/`` and, where the settings ask for them, heatmaps in it.

    ``names``: file names of the photos; ``found``: what ``Validation.run`` gave for ``model``; ``info``: what the
    figures are of. Raises ``UhdError`` where the folder cannot be written.
    """
    config, gallery = validation.config, Gallery(validation)
    result, rows, truth = found
    labels = class_names(config)
    few = list(range(min(config.val_count or DRAWN, len(validation))))
    try:
        measured = evaluations.measure(truth, rows, names=names, class_names=labels, info=info, result=result)
        evaluations.save(folder, measured, picture=gallery.picture)
        pictures = [gallery.picture(number) for number in few]
        write_samples(
            folder / SAMPLES, pictures, [truth[number][1] for number in few], rows[: len(few)],
            names=names[: len(few)], class_names=labels, score_threshold=config.conf_thresh, limit=len(few),
        )  # fmt: skip
        if config.heatmap_mode is not None:
            heats = record(model, gallery.inputs(few[:DRAWN]), config.heatmap_mode)
            write_heatmaps(folder / SAMPLES, pictures, heats, names[: len(few)])
    except OSError as error:
        raise UhdError(f"{folder}: cannot write the evaluation ({error.strerror or error})") from None


def write_page(folder: Path) -> None:
    """Write ``report.html``. Raises ``UhdError`` where it cannot be written."""
    try:
        write_report(folder)
    except OSError as error:
        raise UhdError(f"{folder}: cannot write the report ({error.strerror or error})") from None
