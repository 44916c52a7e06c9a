"""What a run writes for people to read: ``metrics.jsonl``, ``config.yaml``, ``train.log``."""

from __future__ import annotations

import fcntl
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from uhd import __version__
from uhd.errors import ConfigError, UhdError
from uhd.files import write_text
from uhd.train.config import TrainConfig, to_yaml

Row = dict[str, Any]
"""One line of ``metrics.jsonl``."""

METRICS = "metrics.jsonl"
LOG = "train.log"
SETTINGS = "config.yaml"


class RunFolder:
    """The folder of a run, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: Any = None

    def hold(self) -> None:
        """Make the folder and keep other runs out of it; remove what a killed process left half written.

        Raises ``ConfigError`` when another process trains in it, ``UhdError`` when it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ConfigError(f"{self.path}: another process trains here", hint="choose another --output") from None
        except OSError as error:
            raise UhdError(f"{self.path}: cannot write the run folder ({error.strerror})") from None
        for leftover in self.path.glob(".*.*"):
            if leftover.is_file() and leftover.name != ".lock":
                leftover.unlink(missing_ok=True)

    def release(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_metrics(self, history: Sequence[Row]) -> None:
        """All finished epochs, one JSON object a line."""
        self._write(METRICS, "".join(json.dumps(line, sort_keys=True) + "\n" for line in history))

    def write_settings(self, config: TrainConfig) -> None:
        """The configuration as YAML, which ``--config`` reads."""
        self._write(SETTINGS, to_yaml(config))

    def log(self, text: str) -> None:
        """Append a line with the time to ``train.log``."""
        try:
            with (self.path / LOG).open("a", encoding="utf-8") as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        except OSError as error:
            raise UhdError(f"{self.path / LOG}: cannot write ({error.strerror})") from None

    def _write(self, name: str, text: str) -> None:
        try:
            write_text(self.path / name, text)
        except OSError as error:
            raise UhdError(f"{self.path / name}: cannot write ({error.strerror})") from None


def machine(device: torch.device) -> str:
    """What computes, in a few words."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"uhd {__version__}, torch {torch.__version__}, {where}, {torch.get_num_threads()} threads"
