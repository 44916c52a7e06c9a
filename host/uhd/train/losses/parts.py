"""What every loss returns, and how its settings are taken from those of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from torch import Tensor

#: ``default`` is right; ``reference`` repeats the reference's values, its defects included (decision 0009).
LossMode = Literal["default", "reference"]


@dataclass(frozen=True)
class LossParts:
    """``total`` carries the gradient; ``parts`` are the unweighted parts by their log names, detached, 0-dim."""

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def items(self) -> dict[str, Tensor]:
        """``loss`` and every part, as they are logged."""
        return {"loss": self.total.detach(), **self.parts}


Settings = TypeVar("Settings")


def settings_from(kind: type[Settings], source: Any) -> Settings:
    """A settings dataclass filled from the attributes of the same names that ``source`` has; the rest stay default."""
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(source, name) for name in names if hasattr(source, name)})


def combine(weighted: Mapping[str, tuple[float, Tensor]]) -> LossParts:
    """The sum of weight times part, and the parts."""
    total = sum(weight * part for weight, part in weighted.values())
    assert isinstance(total, Tensor)
    return LossParts(total, {name: part.detach() for name, (_, part) in weighted.items()})
