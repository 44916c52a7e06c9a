"""Does an exported graph compute what the model computes? Measured with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from uhd.errors import ModelError
from uhd.export.record import ROWS

#: Largest difference that float rounding explains, as a part of the largest value (of 1, if values are smaller).
TOLERANCE = 1e-4

FloatArray = NDArray[np.float32]


def open_session(model: bytes, source: str = "the exported graph") -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on one thread. Raises ``ModelError`` if the runtime does not take the model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source}: ONNX Runtime does not take it ({reason})") from None


def run_onnx(model: onnx.ModelProto, image: FloatArray) -> list[FloatArray]:
    """Outputs of ``model`` for one input [B,C,H,W], in file order, on one thread."""
    session = open_session(model.SerializeToString())
    return [np.asarray(output) for output in session.run(None, {model.graph.input[0].name: image})]


def largest_difference(
    wrapper: nn.Module, model: onnx.ModelProto, image: FloatArray, seen: FloatArray | None = None
) -> float:
    """Largest difference between the traced module's outputs and the file's, in units of ``TOLERANCE``'s scale.

    ``seen`` is what the module is to see where the file resizes ``image`` first. Detection rows [B,N,6] are compared
    as ``row_difference`` does.
    """
    with torch.no_grad():
        expected = wrapper(torch.from_numpy(image if seen is None else seen))
    tensors = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    names = [output.name for output in model.graph.output]
    worst = 0.0
    for name, tensor, got in zip(names, tensors, run_onnx(model, image), strict=True):
        want = tensor.detach().numpy()
        if want.shape != got.shape or not np.isfinite(got).all():
            return float("inf")
        if name == ROWS:
            difference = max(row_difference(one, other) for one, other in zip(want, got, strict=True))
        else:
            difference = float(np.abs(want - got).max())
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
