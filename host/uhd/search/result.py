"""What a search says: figures with their errors, and how much the choosing flatters them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uhd.explain.accuracy import jackknife_error
from uhd.search.beam import rank
from uhd.search.inputs import Figures
from uhd.search.journal import Measured
from uhd.search.search import Found


@dataclass(frozen=True)
class CrossCheck:
    """The best within the budget on one half of the photos, measured on the other, both ways.

    ``losses``: mAP@0.5 of the float model less the chosen one's, on the half that it was not chosen on.
    """

    titles: tuple[str, str]
    losses: tuple[float, float]

    @property
    def loss(self) -> float:
        """Mean of both."""
        return sum(self.losses) / 2


def loss_of(floating: Figures, measured: Measured) -> tuple[float, float | None]:
    """(mAP@0.5 of the float model less this one's, its standard error by the jackknife)."""
    lost = [a - b for a, b in zip(floating.left_out, measured.left_out, strict=True)]
    return floating.map50 - measured.map50, jackknife_error(lost)


def cross_check(floating: Figures, found: Found) -> CrossCheck | None:
    """None where nothing is within the budget."""
    allowed = [m for m in found.measured if found.budget.allows(m)]
    if not allowed:
        return None
    chosen = [min(allowed, key=lambda m, half=half: (-m.halves[half], *rank(m)[1:])) for half in (0, 1)]  # type: ignore[misc]
    losses = tuple(floating.halves[1 - half] - chosen[half].halves[1 - half] for half in (0, 1))
    return CrossCheck((chosen[0].candidate.title, chosen[1].candidate.title), (losses[0], losses[1]))


def summary(floating: Figures, measured: Measured) -> dict[str, Any]:
    """A candidate's figures for JSON, without what varies from run to run."""
    loss, error = loss_of(floating, measured) if not measured.refused else (None, None)
    values = measured.as_dict() | {"title": measured.candidate.title, "loss50": loss, "loss50_error": error}
    del values["seconds"]
    return values


def table(floating: Figures, found: Found) -> list[tuple[str, ...]]:
    """Rows: float, the best int8 model, the best within the budget, the Pareto front."""
    rows: list[tuple[str, ...]] = [("float", "", f"{floating.map50:.4f}", f"{floating.map50_95:.4f}", "", "", "", "")]
    rows.append(("best int8", *_cells(floating, found.int8)))
    if found.winner:
        rows.append(("best in budget", *_cells(floating, found.winner)))
    return rows + [("front", *_cells(floating, measured)) for measured in found.front]


HEADER = (
    "", "settings", "mAP@0.5", "mAP@0.5:0.95", "lost ± error", "predicted ms", "SRAM", "file",
)  # fmt: skip


def _cells(floating: Figures, measured: Measured) -> Sequence[str]:
    loss, error = loss_of(floating, measured)
    return (
        measured.candidate.title,
        f"{measured.map50:.4f}",
        f"{measured.map50_95:.4f}",
        f"{loss:+.4f}" + ("" if error is None else f" ± {error:.4f}"),
        f"{measured.predicted_ms:.2f}",
        f"{measured.sram_bytes:,} B",
        f"{measured.size_bytes:,} B",
    )


def as_dict(floating: Figures, found: Found, command: Sequence[str], photos: int) -> dict[str, Any]:
    """Everything for ``search.json``; equal searches give equal content."""
    check, winner = cross_check(floating, found), found.winner
    return {
        "photos": photos,
        "float": {"map50": floating.map50, "map50_95": floating.map50_95, "halves": list(floating.halves)},
        "budget": {"predicted_ms": found.budget.max_ms, "sram_bytes": found.budget.max_sram},
        "best_int8": summary(floating, found.int8),
        "winner": summary(floating, winner) if winner else None,
        "command": list(command),
        "front": [measured.candidate.title for measured in found.front],
        "cross_check": {"chosen": list(check.titles), "losses": list(check.losses), "loss": check.loss}
        if check
        else None,
        "int16_refused": found.int16_refused,
        "sensitivities": [vars(s) | {"gain": s.gain} for s in found.sensitivities],
        "candidates": [summary(floating, measured) for measured in found.measured],
        "predicted_by": "uhd.predict, weights in PSRAM; not measured on a chip",
    }
