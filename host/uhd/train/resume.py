"""Continuing a run: its state belongs to the same settings and the same photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uhd.errors import ConfigError
from uhd.train.config import TrainConfig


def check_same_run(info: Mapping[str, Any], source: Path, config: TrainConfig, data: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` naming the first setting, or the photos, in which a state differs from what is given.

    Settings that the state does not know are newer than it and are not compared, nor is ``use_amp``: on a CPU it is
    left out, and a run may go on there that was started on a GPU.
    """
    mine = config.settings()
    for name, value in info["config"].items():
        if name != "use_amp" and mine.get(name) != value:
            raise ConfigError(
                f"{source}: was started with {name} = {value}, not {mine.get(name)}",
                hint="resume with the same settings, or start a new run with another --output",
            )
    if info["data"] != data:
        raise ConfigError(
            f"{source}: was started on other photos or labels ({info['data']['photos']} photos with"
            f" {info['data']['boxes']} boxes, now {data['photos']} with {data['boxes']})",
            hint="resume with the same --images",
        )
