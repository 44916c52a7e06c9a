"""What the search chooses among, and the command line that makes the same file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from uhd.quantize.job import ALGORITHMS
from uhd.quantize.settings import Settings
from uhd.quantize.trained import Exponents

#: Stands for an algorithm where the grid is the one that training found.
TRAINED = "trained"


@dataclass(frozen=True)
class Base:
    """Everything but the choice of int16 operators. ``algorithm``: one of esp-ppq's, or ``TRAINED``."""

    algorithm: str
    equalize: bool = False
    bias_correction: bool = False
    tqt_steps: int = 0

    @property
    def plain(self) -> Base:
        """The same grid without changes of the weights on it."""
        return replace(self, bias_correction=False, tqt_steps=0)

    @property
    def title(self) -> str:
        """``kl + equalization + TQT``."""
        parts = [self.algorithm]
        parts += ["equalization"] if self.equalize else []
        parts += [f"TQT {self.tqt_steps}"] if self.tqt_steps else []
        return " + ".join([*parts, "bias correction"] if self.bias_correction else parts)


@dataclass(frozen=True)
class Candidate:
    """A base and the convolutions that compute in int16, in graph order."""

    base: Base
    int16: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same text for the same candidate, always."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def title(self) -> str:
        """In a few words."""
        return self.base.title + (f" + {len(self.int16)} in int16" if self.int16 else "")

    def settings(self, target: str, note: str, exponents: Exponents | None = None) -> Settings:
        """For the quantizer; ``note``: what the calibration pictures are. ``exponents``: a grid to impose."""
        trained = self.base.algorithm == TRAINED
        return Settings(
            target,
            patterns=tuple(f"^{re.escape(name)}$" for name in self.int16),
            algorithm="kl" if trained else self.base.algorithm,
            equalize=self.base.equalize,
            calibration_note=note,
            exponents=exponents,
            recalibrate=not trained,
            bias_correction=self.base.bias_correction,
            tqt_steps=self.base.tqt_steps,
        )


def candidate_of(record: dict[str, Any]) -> Candidate:
    """The inverse of ``dataclasses.asdict``."""
    return Candidate(Base(**record["base"]), tuple(record["int16"]))


def bases(tqt_steps: int, trained: bool, algorithms: Sequence[str] = ALGORITHMS) -> list[Base]:
    """All base settings: calibration algorithm x equalization x TQT x bias correction; ``trained``: there is a trained
    grid, which leaves no room for equalization. Those that change no weights come first."""
    grids = [Base(algorithm, equalize) for algorithm in algorithms for equalize in (False, True)]
    grids += [Base(TRAINED)] if trained else []
    changes = [(steps, bias) for steps in ((0, tqt_steps) if tqt_steps else (0,)) for bias in (False, True)]
    return [replace(grid, tqt_steps=steps, bias_correction=bias) for steps, bias in changes for grid in grids]


def command_line(
    candidate: Candidate, model: Path, photos: Path, count: int, target: str, output: Path, grid: Path | None,
    *, carries_grid: bool,
) -> list[str]:  # fmt: skip
    """The words of ``python -m uhd.host quantize ...``. ``grid``: a file of exponents to impose; ``carries_grid``:
    the model has one from its training, which has to be left aside unless it is meant."""
    base = candidate.base
    words = ["quantize", str(model), "--calibration", str(photos), "--calib-steps", str(count), "--target", target]
    if grid is not None:
        words += ["--grid", str(grid)]
    elif base.algorithm != TRAINED:
        words += ["--calib-algorithm", base.algorithm, *(["--recalibrate"] if carries_grid else [])]
    words += ["--use-layerwise-equalization"] if base.equalize else []
    words += ["--tqt-steps", str(base.tqt_steps)] if base.tqt_steps else []
    words += ["--bias-correction"] if base.bias_correction else []
    for name in candidate.int16:
        words += ["--int16-op-pattern", f"^{re.escape(name)}$"]
    return [*words, "--output", str(output)]


def in_order(names: Sequence[str], chosen: set[str]) -> tuple[str, ...]:
    """``chosen`` in the order of ``names``."""
    return tuple(name for name in names if name in chosen)
