"""The architectures as one table: name, configuration class, and how a trainer's flags name its options. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uhd.errors import ConfigError, UhdError
from uhd.models.base import Arch, validate_options
from uhd.models.cnn_config import CnnConfig
from uhd.models.config import UltraTinyODConfig
from uhd.models.reference import SETTINGS
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


def options_from_flags(arch: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``arch`` among a trainer's settings, which use the published flag names with underscores.

    ``flags`` may hold more than that; None leaves an option at its default. Names that are options already
    (``in_channels``, ``num_classes``, ``anchors`` as pairs) are kept. Raises ``ConfigError`` for an unknown
    architecture.
    """
    if arch not in CONFIGS:
        raise ConfigError(f"unknown architecture {arch!r}", hint=f"choose one of {', '.join(CONFIGS)}")
    names = SETTINGS if arch == "ultratinyod" else {}
    fields = next(kind for name, kind in CONFIGS.items() if name == arch).model_fields
    options: dict[str, Any] = {}
    for flag, value in flags.items():
        field = names.get(flag, flag)
        if field in fields and value is not None and not (field == "anchors" and isinstance(value, str)):
            options[field] = value
    return options
