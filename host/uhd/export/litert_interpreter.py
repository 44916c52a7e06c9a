"""Running a .tflite file with ai-edge-litert: needs NumPy and that package, nothing of ours.

So this file is two things: what ``LiteRTModel`` is made of, and a program for an environment that has ai-edge-litert
but not this package, ``python litert_interpreter.py FILE.tflite INPUTS.npy OUTPUTS.npz``. The program reads inputs
float32 [N,H,W,C], writes what each output of the file says of them as ``0``, ``1``, ... (float32 [N,...], in the
order of the description), and prints the description as JSON on its last line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


class LiteRTInterpreter:
    """A .tflite file with one input, ready to run. Integers at its borders are converted here, floats go in and out.

    ``input`` and ``outputs`` describe the tensors: ``tensor`` (its name in the file), ``shape``, ``dtype``, and
    ``scale`` and ``zero_point`` (None for floats): real value = (integer - zero_point) * scale. Raises
    ``ImportError`` without ai-edge-litert, ``ValueError`` or ``RuntimeError`` for a file that it does not take.
    """

    def __init__(self, path: str, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        self._interpreter.allocate_tensors()
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs, not 1")
        self._input = inputs[0]
        self._outputs = self._interpreter.get_output_details()
        self.input = _described(self._input)
        self.outputs = [_described(output) for output in self._outputs]

    def run(self, image: FloatArray) -> list[FloatArray]:
        """The outputs for one input [1,H,W,C], each as the file lays it out, in the order of ``outputs``."""
        self._interpreter.set_tensor(self._input["index"], _quantized(image, self.input))
        self._interpreter.invoke()
        return [
            _dequantized(self._interpreter.get_tensor(output["index"]), described)
            for output, described in zip(self._outputs, self.outputs, strict=True)
        ]


def _described(detail: dict[str, Any]) -> dict[str, Any]:
    scale, zero_point = detail["quantization"]
    whole = np.issubdtype(detail["dtype"], np.integer)
    return {
        "tensor": str(detail["name"]),
        "shape": [int(size) for size in detail["shape"]],
        "dtype": np.dtype(detail["dtype"]).name,
        "scale": float(scale) if whole else None,
        "zero_point": int(zero_point) if whole else None,
    }


def _quantized(values: FloatArray, described: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(described["dtype"])
    if described["scale"] is None:
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    integers = np.rint(values / np.float32(described["scale"])) + described["zero_point"]
    return np.clip(integers, limits.min, limits.max).astype(dtype)


def _dequantized(values: NDArray[Any], described: dict[str, Any]) -> FloatArray:
    if described["scale"] is None:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(described["zero_point"])) * np.float32(described["scale"])


def main(arguments: list[str]) -> int:
    """The program; see the head of this file."""
    path, inputs, outputs = arguments
    interpreter = LiteRTInterpreter(path)
    found: list[list[FloatArray]] = [[] for _ in interpreter.outputs]
    for image in np.load(inputs, allow_pickle=False):
        for values, one in zip(found, interpreter.run(image[None]), strict=True):
            values.append(one[0])
    np.savez(outputs, **{str(index): np.stack(values) for index, values in enumerate(found)})  # type: ignore[arg-type]
    print(json.dumps({"input": interpreter.input, "outputs": interpreter.outputs}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
