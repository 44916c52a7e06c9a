"""The architectures as one table: name, configuration class. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uhd.errors import ConfigError, UhdError
from uhd.models.base import Arch, validate_options
from uhd.models.cnn_config import CnnConfig
from uhd.models.config import UltraTinyODConfig
from uhd.models.transformer_config import TransformerConfig

ModelConfig = UltraTinyODConfig | CnnConfig | TransformerConfig

CONFIGS: dict[Arch, type[UltraTinyODConfig] | type[CnnConfig] | type[TransformerConfig]] = {
    "ultratinyod": UltraTinyODConfig,
    "cnn": CnnConfig,
    "transformer": TransformerConfig,
}


def parse_options(
    arch: str, options: Mapping[str, Any], source: str, error: type[UhdError] = ConfigError
) -> ModelConfig:
    """The configuration of an architecture from plain values, as ``ModelConfig.options`` gives them.

    Raises ``error`` (one line, naming ``source``) for an unknown architecture, key or value.
    """
    for name, kind in CONFIGS.items():
        if name == arch:
            return validate_options(kind, options, source, error)
    raise error(f"{source}: unknown architecture {arch!r}", hint=f"choose one of {', '.join(CONFIGS)}")
