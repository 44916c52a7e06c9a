"""Switches that make a link lossy, for commands that talk to a device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def loss_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``--drop-rate``, ``--flip-rate``, ``--delay-ms`` and ``--loss-seed``: its argument ``loss``.

    ``loss`` is a ``uhd.device.lossy.Loss``; ``loss.wrap(port)`` is the port behind that line.
    """

    @click.option("--drop-rate", type=click.FloatRange(0, 1), default=0.0, help="Drop so many of the bytes, both ways.")
    @click.option("--flip-rate", type=click.FloatRange(0, 1), default=0.0, help="Flip so many of the bits, both ways.")
    @click.option("--delay-ms", type=click.FloatRange(0, 59999), default=0.0, help="Delay everything, each way.")
    @click.option("--loss-seed", type=click.IntRange(min=0), default=0, help="Another seed, other losses.")
    @functools.wraps(command)
    def with_loss(
        *arguments: Any, drop_rate: float, flip_rate: float, delay_ms: float, loss_seed: int, **options: Any
    ) -> Any:
        from uhd.device.lossy import Loss

        return command(*arguments, loss=Loss(drop_rate, flip_rate, delay_ms / 1000, loss_seed), **options)

    return with_loss
