"""Training on the chip's integer grid: preparing the model, and the float weights that come of it."""

from __future__ import annotations

from typing import Any

import torch

from uhd.manifest import ModelManifest
from uhd.train.augment.config import AugmentConfig
from uhd.train.batches import plain_batch
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore
from uhd.train.qat.model import QatModel
from uhd.train.qat.settings import QatSettings

#: Photos on which the first exponents are found.
CALIBRATION = 64


def prepared(model: Any, store: PhotoStore, config: TrainConfig) -> QatModel:
    """``model`` on the grid of ``qat_target``; the first exponents come from whole training photos, evenly spread.

    Raises ``ConfigError`` for settings that do not fit and ``ModelError`` for what cannot be trained so.
    """
    from uhd.train.qat.prepare import prepare  # brings the exporter and the quantizer, which other runs do without

    settings = QatSettings(
        config.qat_target,
        config.qat_int16_op_pattern,
        config.qat_preset,
        bits=config.qat_bits,
        disable_observer_epoch=config.qat_disable_observer_epoch,
        freeze_bn_epoch=config.qat_freeze_bn_epoch,
        variant=config.variant,
    )
    settings.check()
    step = max(1, len(store) // CALIBRATION)
    photos = torch.arange(0, len(store), step)[:CALIBRATION]
    images = plain_batch(store, photos, config.resize_mode, config.input_size, AugmentConfig())
    return prepare(model, settings, images.cpu().contiguous().numpy())


def begin_epoch(model: Any, epoch: int) -> None:
    """Tell a model that trains on the grid which epoch, from 0, begins; others do not ask."""
    if isinstance(model, QatModel):
        model.on_epoch(epoch + 1)


def as_float(model: Any, manifest: ModelManifest) -> tuple[Any, ModelManifest]:
    """The float model to keep, and its manifest with the trained grid in it, for the quantizer to use."""
    if not isinstance(model, QatModel):
        return model, manifest
    from uhd.train.qat.prepare import finish, with_record

    plain, trained = finish(model)
    return plain, with_record(manifest, trained)
