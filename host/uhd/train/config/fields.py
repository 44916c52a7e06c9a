"""What the settings' fields are made of: bounded numbers, texts that YAML may give as numbers or lists, groups."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Group(BaseModel):
    """A section of the settings; its docstring's first line is the section's title."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def unit(default: float, text: str) -> Any:
    """A number from 0 to 1."""
    return Field(default=default, description=text, ge=0.0, le=1.0, allow_inf_nan=False)


def weight(default: float, text: str) -> Any:
    """A number from 0."""
    return Field(default=default, description=text, ge=0.0, allow_inf_nan=False)


def positive(default: float, text: str) -> Any:
    """A number above 0."""
    return Field(default=default, description=text, gt=0.0, allow_inf_nan=False)


def count(default: int | None, text: str, least: int = 1, most: int | None = None) -> Any:
    """A whole number from ``least``."""
    return Field(default=default, description=text, ge=least, le=most)


def switch(text: str, default: bool = False) -> Any:
    """Off unless given."""
    return Field(default=default, description=text)


def option(default: Any, text: str) -> Any:
    """A choice or a text."""
    return Field(default=default, description=text)


def path(text: str) -> Any:
    """A file or folder, none unless given."""
    return Field(default=None, description=text, min_length=1)


def _joined(separator: str) -> BeforeValidator:
    """YAML may give ``0`` or ``[0, 2]`` where a flag has the text ``0,2``."""

    def join(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, list | tuple) and all(type(part) in (int, float, str) for part in value):
            return separator.join(str(part) for part in value)
        return value

    return BeforeValidator(join)


def _joined_pairs(value: Any) -> Any:
    """YAML may give ``[[0.1, 0.2], [0.3, 0.4]]`` where a flag has the text ``0.1,0.2 0.3,0.4``."""
    if isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) for pair in value):
        return " ".join(",".join(str(number) for number in pair) for pair in value)
    return value


def _many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


#: ``"0,2"``.
Numbers = Annotated[str, _joined(",")]
#: ``"0.1,0.2 0.3,0.4"``.
Pairs = Annotated[str, BeforeValidator(_joined_pairs)]
#: Any number of texts; a flag that may be repeated.
Texts = Annotated[tuple[str, ...], BeforeValidator(_many)]
