"""One model, one inference, any engine: integers in, integers out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from uhd.errors import ConfigError
from uhd.espdl.inputs import coerce_inputs
from uhd.espdl.model import EspdlModel
from uhd.manifest import ModelManifest
from uhd.paths import build_root

ENGINES = ("oracle", "twin", "qemu")


def plain_manifest(model: EspdlModel) -> ModelManifest:
    """A manifest for a model of which nothing is known but its graph: no anchors, so nothing to decode."""
    shape = (1,) * (4 - len(model.tensors[model.inputs[0]].shape)) + model.tensors[model.inputs[0]].shape
    return ModelManifest(
        name=model.name or "model", input_height=shape[1], input_width=shape[2], input_channels=shape[3]
    )


def run_engine(
    model: EspdlModel, espdl_bytes: bytes, inputs: Mapping[str, NDArray[Any]], engine: str
) -> dict[str, NDArray[Any]]:
    """Run ``model`` once.

    Args:
        model: the parsed .espdl.
        espdl_bytes: the file it was parsed from.
        inputs: integers by graph input name, [1, H, W, C] or [H, W, C].
        engine: ``oracle`` (NumPy), ``twin`` (generated code on this machine) or ``qemu`` (the same on the emulator).

    Returns:
        int8 or int16 arrays by output name, [1, H, W, C].

    Raises:
        ConfigError: an unknown engine.
        DataError: inputs that do not fit.
        ModelError: an operator that the engine does not have.
        ToolMissingError: the compiler or emulator is missing.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}", hint=f"choose one of {', '.join(ENGINES)}")
    fitted = coerce_inputs(model, inputs)
    if engine == "oracle":
        from uhd.espdl import oracle

        return oracle.run(model, fitted)
    from uhd.codegen import generate

    build_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="engine-", dir=build_root()) as folder:
        component = Path(folder) / "uhd_model"
        generate(model, espdl_bytes, plain_manifest(model), component)
        if engine == "twin":
            from uhd.device.twin import Twin

            outputs = Twin(component).run(fitted)
        else:
            from uhd.device.qemu import run_tensor

            outputs = run_tensor(component, fitted)
    return {name: outputs[name].reshape(model.tensors[name].shape) for name in model.outputs}
