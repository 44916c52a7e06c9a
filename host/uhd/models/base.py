"""What the configurations of all architectures share, and how they are read from plain values. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from uhd.errors import ConfigError, UhdError

Arch = Literal["ultratinyod", "cnn", "transformer"]
HeadKind = Literal["anchor", "centernet", "detr"]
Anchor = tuple[float, float]

#: JSON has no tuples.
AS_TUPLE = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
Anchors = Annotated[tuple[Annotated[Anchor, AS_TUPLE], ...], AS_TUPLE]


def alias(table: Mapping[str, str | None]) -> BeforeValidator:
    """Other spellings of a text option; what the table does not hold passes unchanged."""
    return BeforeValidator(lambda value: table.get(value.lower(), value) if isinstance(value, str) else value)


Activation = Annotated[Literal["silu", "relu"], alias({"swish": "silu"})]


class ModelOptions(BaseModel):
    """Base of the architectures' configurations: unknown keys and wrong types are errors, instances are immutable.

    Each architecture adds ``arch``, ``head`` (anchor, centernet or detr), ``class_count``, ``map_names``,
    ``maps_for(score_mode)``, ``resolved_score_mode`` and ``quality_power``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    in_channels: int = Field(default=3, ge=1, description="3: RGB, 2: packed YUV 4:2:2, 1: luma")
    num_classes: int = Field(default=1, ge=1)

    def options(self) -> dict[str, Any]:
        """The fields as plain JSON values, for ``ModelManifest.options``; ``parse_options`` reads them back."""
        return self.model_dump(mode="json")


def check_anchors(anchors: Iterable[Anchor]) -> None:
    """Raises ``ValueError`` for a width or height that is not positive and finite."""
    for w, h in anchors:
        if not (math.isfinite(w) and math.isfinite(h) and w > 0 and h > 0):
            raise ValueError(f"anchor ({w}, {h}) is not a positive size")


Options = TypeVar("Options", bound=ModelOptions)


def validate_options(
    kind: type[Options], options: Mapping[str, Any], source: str, error: type[UhdError] = ConfigError
) -> Options:
    """A configuration from plain values. Raises ``error`` (one line, names ``source`` and the key)."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise error(f"{source}: {f'option {where}: ' if where else ''}{text}") from None
