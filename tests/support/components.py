"""Generated components for tests: of golden .espdl files, of tiny quantized networks, of models made by hand."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.made_models import Maker
from uhd.codegen import generate
from uhd.device import compile as compiling
from uhd.device.engines import plain_manifest
from uhd.espdl.model import EspdlModel
from uhd.manifest import ModelManifest

RUNNER = Path(__file__).with_name("model_runner.cpp")


def made_detector(
    seed: int = 0, target: str = "c", bits: int = 8, channels: int = 12, anchors: int = 3
) -> tuple[EspdlModel, bytes]:
    """A small detector made by hand, with outputs box, quality and cls on an 8x8 grid; and its stand-in file."""
    make = Maker(seed, target, bits)
    x = make.conv(make.input(16, 16, 2), channels, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    y = make.conv(x, channels, (3, 3), pads=(1, 1, 1, 1), group=channels)
    a, b = make.conv(y, 8, relu=False), make.conv(make.pool(y, 5, 1, 2), 8, relu=False, spread=0.1)
    b = make.requantize(b, make.tensors[a].exponent - make.tensors[b].exponent)
    x = make.gate(make.conv(make.concat([a, b]), channels))
    small = make.conv(x, channels, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), group=channels)
    large = make.resize(make.conv(small, channels), 8, 8)
    joined = make.same("Add", [x, make.requantize(large, make.tensors[x].exponent - make.tensors[large].exponent)])
    outputs = {"box": 4 * anchors, "quality": anchors, "cls": anchors}
    names = [make.rename(make.conv(joined, n, relu=False, spread=0.1), name) for name, n in outputs.items()]
    return make.model(*names), make.file()


def detector_manifest(model: EspdlModel, **changes: Any) -> ModelManifest:
    """A manifest that fits ``made_detector``."""
    shape = model.tensors[model.inputs[0]].shape
    anchors = model.tensors["quality"].shape[3]
    fields: dict[str, Any] = dict(
        name="made", input_height=shape[1], input_width=shape[2], input_channels=shape[3],
        anchors=[(0.05 + 0.2 * i, 0.1 + 0.3 * i) for i in range(anchors)],
        wh_scale=[(1.0 + 0.1 * i, 0.9) for i in range(anchors)],
    )  # fmt: skip
    return ModelManifest(**(fields | changes))


def made_component(folder: Path, model: EspdlModel, content: bytes, manifest: ModelManifest | None = None) -> Path:
    """The component of a model; without a manifest one without anchors."""
    generate(model, content, manifest or plain_manifest(model), folder)
    return folder


def run_sanitized(component: Path, inputs: list[NDArray[Any]], folder: Path) -> list[bytes]:
    """Outputs (all of an inference, one after the other) of the component under the sanitizers."""
    toolchain = compiling.host_toolchain(shared=False, sanitize=True)
    sources = [*compiling.component_sources(component), *compiling.runtime_sources(), RUNNER]
    program = compiling.build(
        toolchain, sources, "sanitized", includes=[component], data=compiling.component_data(component)
    )
    (folder / "in").write_bytes(b"".join(np.ascontiguousarray(x).tobytes() for x in inputs))
    done = subprocess.run([str(program), str(folder / "in"), str(folder / "out")], capture_output=True, text=True)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-3000:]}"
    output = (folder / "out").read_bytes()
    size = len(output) // len(inputs)
    return [output[i * size : (i + 1) * size] for i in range(len(inputs))]


def joined(outputs: Mapping[str, NDArray[Any]]) -> bytes:
    """Outputs as ``run_sanitized`` gives them."""
    return b"".join(np.ascontiguousarray(v).tobytes() for v in outputs.values())


def need_compiler() -> None:
    """Skip, with the reason, where there is no C++ compiler."""
    try:
        compiling.find_compiler()
    except Exception as error:
        pytest.skip(str(error))
