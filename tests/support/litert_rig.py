"""An environment of onnx2tf without TensorFlow: its onnx2tf is a stand-in that hands out files made before.

The two files in ``tests/litert/files`` were made by onnx2tf 1.29.24 of ``utod_onnx``; what runs them is real.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from pathlib import Path

import pytest

from support.architectures import small
from uhd.litert import environment
from uhd.litert.environment import Environment
from uhd.manifest import ModelManifest

FILES = Path(__file__).parents[1] / "litert" / "files"
_FOLDER = tempfile.TemporaryDirectory(prefix="litert_rig_")

STAND_IN = """
import json, shutil, sys
from pathlib import Path

FILES = Path({files!r})
TOLD = Path({told!r})

def download_test_image_data():
    raise RuntimeError("this would be a download")

def main():
    words = sys.argv[1:]
    TOLD.write_text(json.dumps({{"words": words, "shape": list(download_test_image_data().shape)}}))
    output = Path(words[words.index("-o") + 1])
    output.mkdir()
    shutil.copy(FILES / "utod_float32.tflite", output / "model_float32.tflite")
    print("\\033[32mFloat32 tflite output complete!\\033[0m", flush=True)
    if "--output_integer_quantized_tflite" in words:
        shutil.copy(FILES / "utod_full_integer_quant.tflite", output / "model_full_integer_quant.tflite")
        print("\\033[32mFull INT8 Quantization tflite output complete!\\033[0m", flush=True)
"""


def rig(folder: Path) -> Environment:
    """A complete environment in ``folder``: this interpreter, with the stand-in. ``told`` reads what it was asked."""
    package = folder / "stand_in" / "onnx2tf"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "onnx2tf.py").write_text(STAND_IN.format(files=str(FILES), told=str(folder / "told.json")))
    made = empty(folder)
    made.python.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    return made


def empty(folder: Path) -> Environment:
    """A complete environment by its stamp, whose interpreter has no onnx2tf."""
    made = Environment(folder)
    made.python.parent.mkdir(parents=True)
    made.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    made.python.chmod(0o755)
    (folder / ".uhd-litert").write_text(environment.REQUIREMENT)
    return made


def told(made: Environment) -> dict[str, list[str]]:
    """The words that the stand-in was started with, and the shape of the pictures that it would have fetched."""
    return json.loads((made.folder / "told.json").read_text())


@functools.cache
def utod_onnx(flavour: str = "parts", name: str = "utod") -> Path:
    """The small UltraTinyOD that the files were made of, or another small model, as ONNX."""
    from uhd.export.onnx_export import export_onnx

    model = small(name)
    mode = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest"}
    manifest = ModelManifest(
        name=name,
        architecture=model.config.arch,
        input_channels=model.config.in_channels,
        resize_mode=mode[model.config.in_channels],  # type: ignore[arg-type]
    )
    path = Path(_FOLDER.name) / f"{name}_{flavour}.onnx"
    export_onnx(model, manifest, path, flavour=flavour)
    return path


def real_environment() -> Environment:
    """The environment with TensorFlow, where there is one. Skips the test, with the reason, where there is none."""
    found = Environment(environment.default_folder())
    if not found.complete:
        pytest.skip(f"no environment of onnx2tf in {found.folder} (make it with `litert --install`)")
    return found
