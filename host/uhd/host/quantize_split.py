"""What ``--split-filters`` tells: what was split, what was compared, and what a chip will make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uhd.quantize.rewrites.apply import Rewritten


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
    def gain(self) -> float:
        """How many times as fast, the moved bytes counted against it in full."""
        return self.before_ms / (self.after_ms + self.traffic_ms)

    @property
    def verdict(self) -> str:
        """The gain in words."""
        if self.after_ms > 1.005 * self.before_ms:
            return "slower: raise --filter-limit, or leave the filters whole"
        return f"{self.before_ms / self.after_ms:.1f} times as fast"


def filter_limit(text: str | None, split: bool) -> int:
    """Bytes of a filter, from ``48k`` or ``49152``; 0 where filters are not split. Raises ``ConfigError``."""
    from uhd.errors import ConfigError

    if not split:
        if text is not None:
            raise ConfigError(f"--filter-limit {text} without --split-filters", hint="give both, or neither")
        return 0
    number, unit = (text or "48k").lower(), 1
    if number.endswith("k"):
        number, unit = number[:-1], 1024
    if not number.isdecimal() or int(number) == 0:
        raise ConfigError(f"--filter-limit {text}", hint="write bytes, or KB such as 48k")
    return int(number) * unit


def forecast(made: Rewritten) -> Forecast | None:
    """The forecast for the chip of two forms of a model; None for the portable target."""
    from uhd.predict.chips import chip
    from uhd.predict.latency import predict
    from uhd.predict.workload import workload

    before, names = made.before, made.names.operators
    if before.target == "c":
        return None
    board, plain, ops = chip(before.target), workload(before), workload(made.after)
    by_name = {op.name: op for op in ops}
    moved = 0
    for split in made.splits:
        concat, *parts = (by_name[names.get(name, name)] for name in (split.concat, *split.parts))
        if not split.merged:  # otherwise the plain form has this Concat, too
            moved += concat.input_bytes + concat.output_bytes
        moved += sum(part.input_bytes for part in parts[1:])
    return Forecast(
        before.target,
        predict(plain, board).total_ms,
        predict(ops, board).total_ms,
        moved,
        1000 * moved / board.bandwidth["psram"],
    )


def split_summary(outcome: Rewritten, limit: int) -> dict[str, object]:
    """Everything as plain values for JSON."""
    found = forecast(outcome)
    return {
        "limit_bytes": limit,
        "padded": dict(outcome.padded),
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
    click.echo(f"equal: {outcome.proof}")
    for line in forecast_lines(outcome):
        click.echo(line)


def forecast_lines(made: Rewritten) -> list[str]:
    """The forecast in words; none for the portable target."""
    from uhd.predict.chips import chip

    found = forecast(made)
    if found is None or not (made.splits or made.padded or made.merged):
        return []
    board = chip(found.target)
    return [
        f"predicted on {found.target}, weights in PSRAM: {found.before_ms:.1f} ms before, "
        f"{found.after_ms:.1f} ms after ({found.verdict}{'' if board.fitted else f'; {board.basis}'})",
        f"not in that: the pieces move {found.traffic_bytes:,} B of activations more, {found.traffic_ms:.1f} ms if all "
        "of it goes to PSRAM",
    ]
