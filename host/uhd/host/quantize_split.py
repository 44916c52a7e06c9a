"""What ``quantize --split-filters`` tells: what was split, what was compared, and what a chip will make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uhd.espdl.model import EspdlModel
    from uhd.quantize.rewrites.apply import Rewritten
    from uhd.quantize.rewrites.split import Split


@dataclass(frozen=True)
class Forecast:
    """Predicted milliseconds of an inference, weights in PSRAM, before and after.

    ``traffic_bytes``: activations that the split form moves beyond the plain one: inputs that each piece reads again,
    and what the Concats read and write. The model of latency counts no activations; ``traffic_ms`` is what these bytes
    cost if all of them go to PSRAM.
    """

    target: str
    before_ms: float
    after_ms: float
    traffic_bytes: int
    traffic_ms: float

    @property
    def verdict(self) -> str:
        """The gain in words. Requantizing an input once a piece can cost more than fetching the filter again did."""
        if self.after_ms > 1.005 * self.before_ms:
            return "slower: raise --filter-limit, or leave the filters whole"
        return f"{self.before_ms / self.after_ms:.1f} times as fast"


def forecast(before: EspdlModel, after: EspdlModel, splits: tuple[Split, ...]) -> Forecast | None:
    """The forecast for the chip of two forms of a model; None for the portable target."""
    from uhd.predict.chips import chip
    from uhd.predict.latency import predict
    from uhd.predict.workload import workload

    if before.target == "c":
        return None
    board, plain, ops = chip(before.target), workload(before), workload(after)
    by_name = {op.name: op for op in ops}
    moved = 0
    for split in splits:
        if not split.merged:  # otherwise the plain form has this Concat, too
            moved += by_name[split.concat].input_bytes + by_name[split.concat].output_bytes
        moved += sum(by_name[part].input_bytes for part in split.parts[1:])
    return Forecast(
        before.target,
        predict(plain, board).total_ms,
        predict(ops, board).total_ms,
        moved,
        1000 * moved / board.bandwidth["psram"],
    )


def split_summary(outcome: Rewritten, limit: int) -> dict[str, object]:
    """Everything as plain values for JSON."""
    found = forecast(outcome.before, outcome.after, outcome.splits)
    return {
        "limit_bytes": limit,
        "operators": [
            {"name": s.operator, "filter_bytes": s.filter_bytes, "channels": list(s.channels)} for s in outcome.splits
        ],
        "compared": vars(outcome.proof),
        "predicted": vars(found) if found else None,
    }


def print_split(outcome: Rewritten) -> None:
    """The same in words."""
    if not outcome.splits:
        return  # a note of the report says so
    for split in outcome.splits:
        pieces = " + ".join(map(str, split.channels))
        click.echo(f"  split  {split.operator}: {split.filter_bytes:,} B, channels {pieces}")
    proof = outcome.proof
    click.echo(
        f"equal: {proof.constants:,} integers of filters and biases, and {proof.values:,} of activations "
        f"on {proof.pictures} pictures"
    )
    found = forecast(outcome.before, outcome.after, outcome.splits)
    if found is None:
        return
    click.echo(
        f"predicted on {found.target}, weights in PSRAM: {found.before_ms:.1f} ms before, "
        f"{found.after_ms:.1f} ms after ({found.verdict})"
    )
    click.echo(
        f"not in that: the pieces move {found.traffic_bytes:,} B of activations more, "
        f"{found.traffic_ms:.1f} ms if all of it goes to PSRAM"
    )
