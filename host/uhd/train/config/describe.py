"""What a setting looks like to a user: its flag, its kind, its choices, range and default."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from uhd.train.config.defaults import variant_settings
from uhd.train.config.schema import GROUPS, TrainConfig

Kind = Literal["switch", "int", "float", "text", "texts"]


@dataclass(frozen=True)
class Setting:
    """One field of ``TrainConfig``."""

    name: str
    kind: Kind
    description: str
    default: str
    """As shown; the default of a variant follows where it differs."""
    choices: tuple[str, ...]
    limits: str
    """Such as ``0 to 1`` or ``above 0``; empty without bounds."""
    optional: bool
    """Whether ``none`` is a value."""

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def notes(self) -> str:
        """``default: 10; from 1``."""
        return "; ".join(part for part in (f"default: {self.default}", self.limits) if part)


def sections() -> dict[str, list[Setting]]:
    """All settings by the title of their section, in the order of the help."""
    special = variant_settings("R")
    return {
        (group.__doc__ or "").strip(): [
            _setting(name, TrainConfig.model_fields[name], special) for name in group.model_fields
        ]
        for group in GROUPS
    }


def _setting(name: str, field: FieldInfo, special: dict[str, Any]) -> Setting:
    kinds, choices = _unwrap(field.annotation)
    default = "anew" if name == "resume" else "automatic" if name == "device" else shown(field.default)
    if name == "variant":
        default = "R, unless a setting of the architecture is given"
    elif name in special and special[name] != field.default:
        default += f"; variant R: {shown(special[name])}"
    named: dict[type, Kind] = {bool: "switch", int: "int", float: "float"}
    kind: Kind = "texts" if get_origin(field.annotation) is tuple else "text" if str in kinds else named[kinds[0]]
    optional = type(None) in _parts(field.annotation)
    return Setting(name, kind, field.description or "", default, choices, _limits(field), optional)


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _unwrap(annotation: Any) -> tuple[list[type], tuple[str, ...]]:
    """Plain types and literal choices of an annotation."""
    kinds: list[type] = []
    choices: list[str] = []
    for part in _parts(annotation):
        if get_origin(part) is Annotated:
            inner = _unwrap(get_args(part)[0])
            kinds += inner[0]
            choices += inner[1]
        elif get_origin(part) is Literal:
            choices += [str(value) for value in get_args(part)]
            kinds += [type(value) for value in get_args(part)]
        elif isinstance(part, type) and part is not type(None):
            kinds.append(part)
    return kinds, tuple(choices)


def _limits(field: FieldInfo) -> str:
    low = high = ""
    for bound in field.metadata:
        for name, word in (("ge", "from"), ("gt", "above")):
            if getattr(bound, name, None) is not None:
                low = f"{word} {shown(getattr(bound, name))}"
        for name, word in (("le", "to"), ("lt", "below")):
            if getattr(bound, name, None) is not None:
                high = f"{word} {shown(getattr(bound, name))}"
    return " ".join(part for part in (low, high) if part)


def shown(value: Any) -> str:
    """A default or bound as a user writes it."""
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
