"""Running .tflite files beside the ONNX file they were made from: which output is which map, and how far off it is."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.export import litert_interpreter
from uhd.export.litert_manifest import LiteRTTensor
from uhd.export.litert_model import channels_first
from uhd.litert.environment import Environment
from uhd.litert.source import FloatModel

FloatArray = NDArray[np.float32]

#: Largest difference that float rounding explains in a float32 file, as a part of the map's largest value.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Ran:
    """What a file said of some pictures. ``outputs``: [N,C,H,W] (or [N,Q,C]) each, in the file's order."""

    description: dict[str, Any]
    outputs: list[FloatArray]


def run_file(environment: Environment, path: Path, pictures: FloatArray, folder: Path) -> Ran:
    """Run ``path`` on ``pictures`` [N,C,H,W] in the environment; ``folder`` is scratch. Raises ``ModelError``."""
    inputs, outputs = folder / "inputs.npy", folder / "outputs.npz"
    np.save(inputs, np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), allow_pickle=False)
    program = str(litert_interpreter.__file__)
    done = subprocess.run(
        [str(environment.python), program, str(path), str(inputs), str(outputs)],
        capture_output=True, text=True, errors="replace", cwd=folder, env=environment.variables(),
    )  # fmt: skip
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1][:200]
        raise ModelError(f"{path.name}: LiteRT cannot run it: {reason}", hint="leave this kind out with --kinds")
    description = json.loads(done.stdout.splitlines()[-1])
    with np.load(outputs, allow_pickle=False) as arrays:
        found = [channels_first(arrays[str(index)]) for index in range(len(description["outputs"]))]
    return Ran(description, found)


def match_maps(expected: Mapping[str, FloatArray], found: Sequence[FloatArray], name: str) -> list[str]:
    """Which map each of ``found`` is: the assignment with the smallest mean differences, shapes being equal.

    The converter renames outputs and reorders them differently for each kind, so names and places say nothing.
    Raises ``ModelError``, naming the file, where shapes do not fit.
    """
    best, least = None, np.inf
    for order in itertools.permutations(expected):
        pairs = [(expected[key], values) for key, values in zip(order, found, strict=False)]
        if len(found) == len(order) and all(one.shape == other.shape for one, other in pairs):
            total = sum(float(np.abs(one - other).mean()) for one, other in pairs)
            if total < least:
                best, least = order, total
    if best is None:
        shapes = ", ".join(str(list(values.shape[1:])) for values in found)
        raise ModelError(f"{name}: its outputs ({shapes}) are not the maps {', '.join(expected)}")
    return list(best)


def differences(
    expected: Mapping[str, FloatArray], found: Mapping[str, FloatArray]
) -> tuple[dict[str, float], dict[str, float]]:
    """Largest and mean size of the differences of each map."""
    sizes = {name: np.abs(values - found[name]) for name, values in expected.items()}
    return {n: float(size.max()) for n, size in sizes.items()}, {n: float(size.mean()) for n, size in sizes.items()}


def relative(expected: Mapping[str, FloatArray], sizes: Mapping[str, float]) -> float:
    """The worst of ``sizes``, each as a part of its map's largest value (of 1, if values are smaller)."""
    return max(sizes[name] / max(1.0, float(np.abs(values).max())) for name, values in expected.items())


def tensors(model: FloatModel, ran: Ran, names: Sequence[str]) -> tuple[LiteRTTensor, list[LiteRTTensor]]:
    """Input and outputs of a file as the sidecar has them; ``names`` are those of the outputs."""
    outputs = [LiteRTTensor(name=n, **about) for n, about in zip(names, ran.description["outputs"], strict=True)]
    return LiteRTTensor(name=model.record.input.name, **ran.description["input"]), outputs
