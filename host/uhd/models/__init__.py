"""Model definitions. Importing this package needs no torch; ``build_model`` and the modules of networks do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from uhd.models.architectures import ModelConfig, parse_options
from uhd.models.cnn_config import CnnConfig
from uhd.models.config import UltraTinyODConfig
from uhd.models.families import FAMILIES, family_config, variants_config
from uhd.models.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from uhd.models.detector import Detector

__all__ = [
    "FAMILIES",
    "CnnConfig",
    "ModelConfig",
    "TransformerConfig",
    "UltraTinyODConfig",
    "build_model",
    "family_config",
    "parse_options",
    "variants_config",
]


def build_model(arch: str, options: Mapping[str, Any]) -> Detector:
    """See ``uhd.models.build.build_model``."""
    from uhd.models.build import build_model as build

    return build(arch, options)
