"""The published variants, as rows of one table: a letter names a stem width of one architecture family."""

from __future__ import annotations

from dataclasses import dataclass

from uhd.errors import ConfigError

#: The reference's published anchors (w, h) as fractions of the input, smallest area first.
REFERENCE_ANCHORS: tuple[tuple[float, float], ...] = (
    (0.043750, 0.094437), (0.141667, 0.394426), (0.193750, 0.540625), (0.254172, 0.636096),
    (0.320819, 0.708333), (0.414578, 0.762981), (0.531250, 0.833326), (0.739375, 0.916667),
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A published size: ``letter``, stem ``width`` (channels; 8x wide at the widest) and the family's options."""

    letter: str
    width: int
    family: str = "current_yuv422"


VARIANTS: dict[str, Variant] = {
    v.letter: v
    for v in (
        Variant("R", 16), Variant("Y", 24), Variant("Z", 32), Variant("A", 40), Variant("F", 48), Variant("P", 56),
        Variant("N", 64), Variant("T", 72), Variant("S", 80), Variant("C", 160), Variant("M", 192), Variant("L", 256),
    )
}  # fmt: skip


def get_variant(letter: str) -> Variant:
    """The variant of that letter (case does not matter). Raises ``ConfigError`` for an unknown one."""
    try:
        return VARIANTS[letter.upper()]
    except KeyError:
        raise ConfigError(f"unknown variant {letter!r}", hint=f"choose one of {' '.join(VARIANTS)}") from None
