"""Does an exported graph compute what the model computes? Measured with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

#: Largest difference that float rounding explains, as a part of the largest value (of 1, if values are smaller).
TOLERANCE = 1e-4

FloatArray = NDArray[np.float32]


def run_onnx(model: onnx.ModelProto, image: FloatArray) -> list[FloatArray]:
    """Outputs of ``model`` for one input [1,C,H,W], in file order, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, {model.graph.input[0].name: image})]


def largest_difference(wrapper: nn.Module, model: onnx.ModelProto, image: FloatArray) -> float:
    """Largest difference between the traced module's outputs and the file's, in units of ``TOLERANCE``'s scale.

    Detection rows [1,N,6] are compared as ``row_difference`` does.
    """
    with torch.no_grad():
        expected = wrapper(torch.from_numpy(image))
    tensors = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    worst = 0.0
    for tensor, got in zip(tensors, run_onnx(model, image), strict=True):
        want = tensor.detach().numpy()
        rows = want.ndim == 3 and want.shape[-1] == 6
        difference = row_difference(want[0], got[0]) if rows else float(np.abs(want - got).max())
        worst = max(worst, difference / max(1.0, float(np.abs(want).max())))
    return worst


def row_difference(want: FloatArray, got: FloatArray, tie: float = 1e-5) -> float:
    """Largest difference between two lists of rows [N,6] (score first, best first) in which ties may be reordered.

    Scores are compared by rank. Each row is then compared with its nearest row on the other side; rows that tie with
    the last score may have been exchanged for others at the cut and are left out.
    """
    if want.shape != got.shape:
        return float("inf")
    worst = float(np.abs(want[:, 0] - got[:, 0]).max())
    for one, other in ((want, got), (got, want)):
        inner = one[one[:, 0] > one[-1, 0] + tie]
        if len(inner):
            nearest = np.abs(inner[:, None] - other[None]).max(-1).min(-1)
            worst = max(worst, float(nearest.max()))
    return worst
