"""From plain values to a TrainConfig, with one line for what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from uhd.errors import ConfigError
from uhd.train.config.schema import TrainConfig


def parse_train_config(values: Mapping[str, Any], source: str) -> TrainConfig:
    """Build a configuration from plain values. Raises ``ConfigError``, one line that names ``source`` and the key."""
    for key in values:
        if key not in TrainConfig.model_fields:
            near = difflib.get_close_matches(str(key), TrainConfig.model_fields, 1, 0.5)
            raise ConfigError(
                f"{source}: {_shown(key)}: unknown setting", hint=f"did you mean {near[0]}?" if near else ""
            )
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        given = f" (given: {_shown(first['input'])})" if where else ""
        raise ConfigError(f"{source}: {f'{where}: ' if where else ''}{message}{given}") from None


def _shown(value: Any) -> str:
    """A value as one short line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
