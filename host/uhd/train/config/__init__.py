"""Settings of a training run: one strict model, its flags, its YAML form. Imports no torch."""

from __future__ import annotations

from uhd.train.config.parse import parse_train_config
from uhd.train.config.schema import GROUPS, PLACES, TrainConfig
from uhd.train.config.texts import parse_class_ids, parse_size

__all__ = ["GROUPS", "PLACES", "TrainConfig", "parse_class_ids", "parse_size", "parse_train_config"]
