"""Fresh models of every architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uhd.models.architectures import ModelConfig, parse_options
from uhd.models.cnn import Cnn
from uhd.models.cnn_config import CnnConfig
from uhd.models.config import UltraTinyODConfig
from uhd.models.detector import Detector
from uhd.models.transformer import Transformer
from uhd.models.ultratinyod import UltraTinyOD


def model_of(config: ModelConfig) -> Detector:
    """A model with fresh random weights (``torch.manual_seed`` decides them)."""
    if isinstance(config, UltraTinyODConfig):
        return UltraTinyOD(config)
    return Cnn(config) if isinstance(config, CnnConfig) else Transformer(config)


def build_model(arch: str, options: Mapping[str, Any]) -> Detector:
    """A fresh model of ``arch`` with ``options`` (the fields of its configuration class, as plain values).

    Raises ``ConfigError`` for an unknown architecture, key or value.
    """
    return model_of(parse_options(arch, options, arch))
