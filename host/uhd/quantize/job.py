"""What the quantizing process is asked to do and what it answers: files in one folder, no torch needed to read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.quantize.presets import Preset

#: esp-ppq's calibration algorithms for activations.
ALGORITHMS = ("kl", "minmax", "percentile", "mse")

#: The only version that the repairs in ``passes`` know.
ESP_PPQ_VERSION = "1.3.12"


@dataclass(frozen=True)
class Job:
    """One quantization. ``metadata`` goes into the .espdl; the calibration array lies beside as a .npy file.

    ``exponents``, if any, replace those that calibration finds; ``separate`` makes them all different.
    ``bias_correction``, ``tqt_steps`` (0: none) and ``tqt_rate`` are for ``corrections``.
    """

    target: str
    patterns: tuple[str, ...]
    preset: Preset | None
    algorithm: str
    int16_algorithm: str
    bits: int
    equalize: bool
    test_vectors: bool
    metadata: dict[str, str]
    exponents: Mapping[str, tuple[int, ...]] | None = None
    separate: bool = False
    bias_correction: bool = False
    tqt_steps: int = 0
    tqt_rate: float = 0.0


@dataclass(frozen=True)
class JobFolder:
    """Names of the files of a job."""

    root: Path

    @property
    def onnx(self) -> Path:
        return self.root / "model.onnx"

    @property
    def espdl(self) -> Path:
        return self.root / "model.espdl"

    @property
    def log(self) -> Path:
        return self.root / "esp-ppq.log"

    def write(
        self, job: Job, onnx: bytes, calibration: NDArray[np.float32], expected: dict[str, NDArray[np.float32]]
    ) -> None:
        """Everything that the quantizing process reads. ``expected``: the float maps of the first picture."""
        self.onnx.write_bytes(onnx)
        np.savez(self.root / "expected.npz", **expected)  # type: ignore[arg-type]
        np.save(self.root / "calibration.npy", calibration, allow_pickle=False)
        (self.root / "job.json").write_text(json.dumps(asdict(job)))

    def read(self) -> tuple[Job, NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """The job, its calibration array, and the float maps of the first picture."""
        fields = json.loads((self.root / "job.json").read_text())
        fields["patterns"] = tuple(fields["patterns"])
        if fields["exponents"] is not None:
            fields["exponents"] = {key: tuple(values) for key, values in fields["exponents"].items()}
        if fields["preset"] is not None:
            fields["preset"] = Preset(**{**fields["preset"], "operators": tuple(fields["preset"]["operators"])})
        with np.load(self.root / "expected.npz", allow_pickle=False) as maps:
            expected = dict(maps)
        return Job(**fields), np.load(self.root / "calibration.npy", allow_pickle=False), expected
