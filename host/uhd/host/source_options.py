"""Options of the commands that watch a device: which one, and what photos it is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--port", help="Serial port or socket://HOST:PORT; by default $ESPPORT, or the only possible board."),
    click.option(
        "--baud", type=click.IntRange(300), default=921600, show_default=True, help="Speed; USB ports ignore it."
    ),
    click.option("--target", type=click.Choice(["qemu"]), help="Boot an emulated device instead of --port."),
    click.option("--variant", default="R", show_default=True, help="Letter of the variant, with --target qemu."),
    click.option("--preset", default="speed", show_default=True, help="Precision preset, with --target qemu."),
    click.option(
        "--photos", type=click.Path(path_type=Path), help="Send these photos (folder or list file) to the device."
    ),
    click.option(
        "--inject",
        type=click.Choice(["network", "camera"]),
        default="network",
        show_default=True,
        help="Photos as network input, or as frames of a camera.",
    ),  # fmt: skip
)


def source_options(function: F) -> F:
    """``--port``, ``--baud``, ``--target``, ``--variant``, ``--preset``, ``--photos`` and ``--inject``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
