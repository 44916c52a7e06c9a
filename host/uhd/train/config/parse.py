"""From plain values to a TrainConfig, with one line for what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from uhd.errors import ConfigError
from uhd.train.config.schema import TrainConfig


def parse_train_config(values: Mapping[str, Any], source: str, origin: Mapping[str, str] | None = None) -> TrainConfig:
    """Build a configuration from plain values.

    Raises ``ConfigError``, one line that names the key and where it comes from: ``source``, or what ``origin`` says
    of that key.
    """
    refuse_unknown(values, source)
    try:
        return TrainConfig.model_validate(dict(values))
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        where = str(first["loc"][0]) if first["loc"] else ""
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        name = where or message.partition(":")[0]
        given = f" (given: {_shown(first['input'])})" if where else ""
        text = f"{where}: {message}" if where else message
        raise ConfigError(f"{(origin or {}).get(name, source)}: {text}{given}") from None


def refuse_unknown(values: Mapping[str, Any], source: str) -> None:
    """Raise ``ConfigError`` for a key that is no setting, with the nearest that is."""
    for key in values:
        if key not in TrainConfig.model_fields:
            near = difflib.get_close_matches(str(key), TrainConfig.model_fields, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{source}: {_shown(key)}: unknown setting", hint=hint)


def _shown(value: Any) -> str:
    """A value as one short line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
