"""What lies beside a .tflite file: its model's manifest, and how the file's tensors are read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from uhd.errors import ModelError
from uhd.manifest import Accuracy, ModelManifest, Strict
from uhd.models.base import HeadKind

Kind = Literal["float32", "float16", "dynamic", "int8", "int16"]

#: How each kind's file name ends: the names that onnx2tf gives, and that published programs know.
SUFFIXES: dict[Kind, str] = {
    "float32": "_float32",
    "float16": "_float16",
    "dynamic": "_dynamic_range_quant",
    "int8": "_full_integer_quant",
    "int16": "_full_integer_quant_with_int16_act",
}


class LiteRTTensor(Strict):
    """An input or output. For integers, real value = (integer - zero_point) * scale."""

    name: str = Field(description="the map, or the input of the ONNX file")
    tensor: str = Field(description="what the .tflite file calls it")
    shape: list[int] = Field(description="as the file has it: [1,H,W,C], or [1,N,C] where there is no picture")
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class LiteRTFile(Strict):
    """The part of the sidecar that is about the file. Tensors are in the file's own order."""

    kind: Kind
    layout: Literal["NHWC"] = "NHWC"
    head: HeadKind
    input: LiteRTTensor = Field(description="a picture in 0..1, channels last; nothing is subtracted or divided")
    outputs: list[LiteRTTensor]
    sha256: str = Field(description="of the .tflite file")
    onnx_sha256: str
    tools: dict[str, str] = Field(description="versions of what made it")
    calibration: str | None = Field(default=None, description="what it was calibrated on, in words")
    calibration_sha256: str | None = None
    compared: str = Field(description="pictures that it was run on beside the ONNX file")
    differences: dict[str, float] = Field(description="largest difference from the ONNX file's map, by map")
    mean_differences: dict[str, float] = Field(description="mean of the differences' sizes, by map")
    accuracy: list[Accuracy] = []


class LiteRTManifest(ModelManifest):
    """The manifest of the model, with what is to be known of the file beside it."""

    litert: LiteRTFile


def sidecar_path(path: Path) -> Path:
    """Where the manifest of the .tflite file ``path`` lies."""
    return path.with_suffix(".json")


def load_litert_manifest(path: Path) -> LiteRTManifest:
    """The manifest beside the .tflite file ``path``. Raises ``ModelError`` if it is missing or another kind of file."""
    sidecar = sidecar_path(path)
    hint = "keep the .json file that `python -m uhd.host litert` writes beside the .tflite file"
    try:
        return LiteRTManifest.model_validate_json(sidecar.read_bytes())
    except OSError as error:
        raise ModelError(f"{sidecar}: cannot read the manifest ({error.strerror})", hint=hint) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise ModelError(f"{sidecar}: manifest key {where}: {first['msg']}", hint=hint) from None
