"""What can be chosen about a quantization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uhd.errors import ConfigError
from uhd.quantize.job import ALGORITHMS
from uhd.quantize.patterns import compile_pattern
from uhd.quantize.presets import Preset
from uhd.targets import TARGETS

#: Learning rate of TQT. esp-ppq's own, 1e-5, moves a weight by less than half a step of int8 in 100 steps.
TQT_RATE = 1e-4


@dataclass(frozen=True)
class Settings:
    """How to quantize.

    Args:
        target: c, esp32s3 or esp32p4.
        patterns: regular expressions of the operators that compute in int16 (``re.search`` on their names).
        preset: a published list instead of, or besides, patterns.
        algorithm: how the ranges of int8 activations are found: kl, minmax, percentile or mse.
        int16_algorithm: the same for int16 activations. minmax loses nothing at 16 bits and takes a tenth of kl's
            time; mse is not offered, because esp-ppq's histogram for it is coarser than int16.
        bits: 8, or 16 for every operator that ESP-DL can run in int16.
        equalize: balance the weights of consecutive layers first (4 iterations, threshold 0.4, as published).
        test_vectors: store one input and its outputs in the file, for the device's self-test and for ours.
        export_anchors: also write ``<stem>_anchors.npy`` and ``<stem>_wh_scale.npy`` beside the .espdl.
        calibration_note: in words, what the calibration pictures are.
        exponents: the grid to use instead of calibrating, by the keys of ``uhd.quantize.trained``; None: the one that
            the model's manifest carries if it was trained for these settings, otherwise calibration.
        anchors_folder: where ``export_anchors`` writes instead.
        recalibrate: calibrate although the manifest carries a grid.
        bias_correction: shift every bias by the mean error of its output (esp-ppq's pass).
        tqt_steps: steps of esp-ppq's TQT, which trains the weights of a few layers at a time to give the float model's
            outputs on the grid that calibration found; 0 leaves them.
        tqt_rate: its learning rate.
    """

    target: str
    patterns: tuple[str, ...] = ()
    preset: Preset | None = None
    algorithm: str = "kl"
    int16_algorithm: str = "minmax"
    bits: int = 8
    equalize: bool = False
    test_vectors: bool = True
    export_anchors: bool = False
    calibration_note: str = ""
    exponents: Mapping[str, tuple[int, ...]] | None = None
    anchors_folder: Path | None = None
    recalibrate: bool = False
    bias_correction: bool = False
    tqt_steps: int = 0
    tqt_rate: float = TQT_RATE

    @property
    def weight_changes(self) -> tuple[str, ...]:
        """What is done to the weights, in words, for the manifest."""
        changes: tuple[str, ...] = ("layerwise equalization",) if self.equalize else ()
        if self.tqt_steps:
            changes += (f"TQT: weights trained for {self.tqt_steps} steps at rate {self.tqt_rate:g}",)
        return (*changes, "bias correction") if self.bias_correction else changes

    def check(self) -> None:
        """Raises ``ConfigError`` for a value out of range."""
        if self.target not in TARGETS:
            raise ConfigError(f"unknown target {self.target!r}", hint=f"choose one of {', '.join(TARGETS)}")
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(
                f"unknown calibration algorithm {self.algorithm!r}", hint=f"choose one of {', '.join(ALGORITHMS)}"
            )
        if self.int16_algorithm not in ALGORITHMS or self.int16_algorithm == "mse":
            raise ConfigError(
                f"calibration algorithm {self.int16_algorithm!r} is not for int16",
                hint="choose minmax, percentile or kl",
            )
        if self.bits not in (8, 16):
            raise ConfigError(f"{self.bits} bits", hint="choose 8 or 16")
        if self.bits == 16 and (self.patterns or (self.preset and self.preset.operators)):
            raise ConfigError("int16 patterns have no meaning with 16 bits", hint="leave out the patterns or the bits")
        if not 0 <= self.tqt_steps <= 10_000:
            raise ConfigError(f"{self.tqt_steps} steps of TQT", hint="100 to 1000 are usual, 0 for none")
        if not 0 < self.tqt_rate <= 0.1:
            raise ConfigError(f"a TQT rate of {self.tqt_rate:g}", hint=f"{TQT_RATE:g} is usual")
        for pattern in self.patterns:
            compile_pattern(pattern)
