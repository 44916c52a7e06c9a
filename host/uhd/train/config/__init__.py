"""Settings of a training run: one strict model, its flags, its YAML form. Imports no torch."""

from __future__ import annotations

from uhd.train.config.layers import combine
from uhd.train.config.parse import parse_train_config
from uhd.train.config.schema import GROUPS, PLACES, TrainConfig
from uhd.train.config.texts import parse_class_ids, parse_size
from uhd.train.config.yaml_file import read_settings, save_yaml, to_yaml

__all__ = [
    "GROUPS",
    "PLACES",
    "TrainConfig",
    "combine",
    "parse_class_ids",
    "parse_size",
    "parse_train_config",
    "read_settings",
    "save_yaml",
    "to_yaml",
]
