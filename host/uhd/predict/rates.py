"""Files of rates: a chip as a board's own profile shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from uhd.errors import ConfigError
from uhd.files import write_text
from uhd.predict.latency import Chip, Memory
from uhd.predict.refit import Errors


class Source(BaseModel):
    """What was measured: the file, how many operators and profiles, where its weights lay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    sha256: str
    operators: int
    runs: int
    weights: Memory
    activations: Memory | None
    measured_ms: float


class RatesFile(BaseModel):
    """``latency_<target>.json``. ``kept``: rates that the profile says nothing of. Errors as in ``Refit``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["uhd-latency-1"] = "uhd-latency-1"
    chip: Chip
    source: Source
    kept: tuple[str, ...]
    before: Errors
    after: Errors
    left_out: Errors

    @model_validator(mode="after")
    def _check(self) -> RatesFile:
        chip = self.chip
        if missing := {"psram", "sram", "flash"} - chip.bandwidth.keys():
            raise ValueError(f"no bandwidth of {', '.join(sorted(missing))}")
        positive = (("clock_hz", chip.clock_hz), ("cache_bytes", chip.cache_bytes), *chip.bandwidth.items())
        for name, value in positive:
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}")
        for name, value in vars(chip.rates).items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"rate {name} is {value}")
        return self


def save_rates(path: Path, rates: RatesFile) -> None:
    """Write the file, atomically. Raises ``ConfigError`` if that is not possible."""
    try:
        write_text(path, rates.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot write there ({error.strerror})") from None


def load_rates(path: Path) -> RatesFile:
    """Read a file of rates. Raises ``ConfigError`` (one line) if it is none."""
    try:
        return RatesFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the rates ({error.strerror})") from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: not a file of rates ({f'{where}: ' if where else ''}{first['msg']})",
            hint="`profile MODEL --log FILE` writes one",
        ) from None
