"""ModelManifest: the one description of a model that travels from checkpoint to device.

Training writes it beside the weights, the ONNX file carries it in its metadata (key ``uhd_manifest``),
quantization extends it, code generation compiles it into the component, the device reports its hash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uhd.errors import ModelError
from uhd.files import write_text

ScoreMode = Literal["obj_quality_cls", "quality_cls", "obj_cls", "obj_quality", "quality", "obj", "cls"]
ResizeMode = Literal[
    "torch_bilinear",
    "torch_nearest",
    "opencv_inter_linear",
    "opencv_inter_nearest",
    "opencv_inter_nearest_y",
    "opencv_inter_nearest_y_bin",
    "opencv_inter_nearest_y_tri",
    "opencv_inter_nearest_yuv422",
]


class Strict(BaseModel):
    """Base of all manifest parts: unknown keys are errors, values are not coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TensorSpec(Strict):
    """One input or output of a quantized model. ``shape`` is NHWC; real value = integer * 2**exponent."""

    name: str
    shape: list[int]
    dtype: Literal["int8", "int16"]
    exponent: int


class Accuracy(Strict):
    """A measured mAP and what it was measured on."""

    data: str = Field(description="name of the data set and split")
    images: int
    map50: float = Field(description="mAP at IoU 0.5")
    map50_95: float = Field(description="mAP at IoU 0.50 to 0.95")
    engine: str = Field(description="what computed it: torch, onnx, oracle, twin, qemu or a board")


class Quantization(Strict):
    """What quantization added: target, precision, calibration and the integer interface."""

    target: str
    preset: str | None = None
    bits: int = 8
    int16_operators: list[str] = []
    calibration: str = Field(description="what it was calibrated on, in words")
    calibration_algorithm: str = "kl"
    calibration_sha256: str | None = None
    calibration_images: int = 0
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    espdl_sha256: str = ""
    rewrites: list[str] = []
    accuracy: list[Accuracy] = []


class ModelManifest(Strict):
    """What a model is and how its numbers are to be read. See ``docs/manifest.md`` for the schema."""

    format_version: Literal[1] = 1
    name: str
    variant: str | None = None
    architecture: Literal["ultratinyod", "cnn", "transformer"] = "ultratinyod"
    options: dict[str, Any] = Field(default={}, description="fields of the architecture's configuration class")
    class_names: list[str] = ["person"]
    input_height: int = 64
    input_width: int = 64
    input_channels: int = 2
    resize_mode: ResizeMode = "opencv_inter_nearest_yuv422"
    anchors: list[tuple[float, float]] = Field(default=[], strict=False)
    wh_scale: list[tuple[float, float]] = Field(default=[], strict=False)
    score_mode: ScoreMode = "quality_cls"
    quality_power: float = 1.0
    score_threshold: float = Field(default=0.15, ge=0, le=1)
    nms_iou: float = Field(default=0.5, ge=0, le=1)
    top_k: int = Field(default=100, ge=1)
    weights_sha256: str = ""
    training: dict[str, Any] = {}
    accuracy: list[Accuracy] = []
    quantization: Quantization | None = None
    tool_version: str = ""

    @property
    def stride(self) -> int:
        """Pixels of the input per cell of an UltraTinyOD's output map."""
        return int(self.options.get("out_stride", 8))

    def dumps(self) -> str:
        """Deterministic JSON text (sorted keys, two spaces, final newline)."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"

    def save(self, path: Path) -> None:
        """Write the JSON file atomically."""
        write_text(path, self.dumps())


def parse_manifest(text: str | bytes, source: str) -> ModelManifest:
    """Parse JSON text; ``source`` names it in errors. Raises ``ModelError`` naming the offending key."""
    try:
        return ModelManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise ModelError(f"{source}: manifest key {where}: {first['msg']}") from None


def load_manifest(path: Path) -> ModelManifest:
    """Read a manifest file. Raises ``ModelError`` if it is missing or not a manifest."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the manifest ({error.strerror})") from None
    return parse_manifest(text, str(path))
