"""Does an imported model compute what the file computes? Torch beside ONNX Runtime, on noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from uhd.detect.decode import decode_maps
from uhd.errors import ModelError
from uhd.export.verify import TOLERANCE, run_onnx
from uhd.models.ultratinyod import UltraTinyOD
from uhd.quantize.source import Source

FloatArray = NDArray[np.float32]

#: Pictures of noise that both compute.
PICTURES = 2
_BOX = ("cx", "cy", "bw", "bh")


@dataclass(frozen=True)
class Comparison:
    """Largest differences, in parts of the largest value (at least 1); ``boxes`` is for files that decode."""

    maps: float
    boxes: float | None = None

    @property
    def worst(self) -> float:
        return max(self.maps, self.boxes or 0.0)


def compare(model: UltraTinyOD, source: Source) -> Comparison:
    """Compare the maps and, of a file that decodes them, its boxes. Raises ``ModelError`` beyond ``TOLERANCE``."""
    cut, whole = onnx.load_from_string(source.onnx), onnx.load(source.path)
    random = np.random.default_rng(0)
    worst_map, worst_box = 0.0, 0.0
    for _ in range(PICTURES):
        picture = random.random(source.shape, dtype=np.float32)
        with torch.no_grad():
            found = model.maps(torch.from_numpy(picture), list(source.maps))
        maps = {name: values.numpy() for name, values in found.items()}
        for output, got in zip(cut.graph.output, _run(cut, picture, source), strict=True):
            worst_map = max(worst_map, _difference(np.abs(maps[output.name] - got), got))
        if decodes(whole):
            outputs = dict(zip((out.name for out in whole.graph.output), _run(whole, picture, source), strict=True))
            worst_box = max(worst_box, _box_difference(model, maps, outputs))
    if not max(worst_map, worst_box) <= TOLERANCE:
        what = "boxes" if worst_map <= TOLERANCE else "maps"
        raise ModelError(
            f"{source.path}: the imported model's {what} differ from the file's by {max(worst_map, worst_box):.2g}"
            f" (allowed {TOLERANCE:g})",
            hint="keep the file as it is with --as onnx",
        )
    return Comparison(worst_map, worst_box if decodes(whole) else None)


def _run(model: onnx.ModelProto, picture: FloatArray, source: Source) -> list[FloatArray]:
    try:
        return run_onnx(model, picture)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source.path}: ONNX Runtime cannot run it ({reason})", hint="export it again") from None


def decodes(model: onnx.ModelProto) -> bool:
    """Whether boxes come out of the graph, as rows [1,N,6] or as maps of their own, rather than logits."""
    shapes = {out.name: [dim.dim_value for dim in out.type.tensor_type.shape.dim] for out in model.graph.output}
    return set(_BOX) <= shapes.keys() or any(len(shape) == 3 and shape[2] == 6 for shape in shapes.values())


def _difference(distance: FloatArray, values: FloatArray) -> float:
    return float(distance.max()) / max(1.0, float(np.abs(values).max()))


def _box_difference(model: UltraTinyOD, maps: dict[str, FloatArray], outputs: dict[str, FloatArray]) -> float:
    """How far the file's boxes, and scores where they come in one row, are from the nearest of the model's."""
    config = model.config
    anchors, scale = model.anchors.numpy(), model.wh_scale.detach().numpy()
    scores, boxes = decode_maps(maps, anchors, scale, config.resolved_score_mode, config.quality_power)
    if set(_BOX) <= outputs.keys():
        theirs, ours = np.stack([outputs[name].ravel() for name in _BOX], 1), boxes[0]
        return _difference(np.abs(theirs - ours), theirs)
    rows = next(rows[0] for rows in outputs.values() if rows.ndim == 3 and rows.shape[2] == 6)
    theirs = rows[rows[:, 0] > 0][:, [0, 2, 3, 4, 5]]
    # Every class of every candidate: files differ in whether they keep one row a candidate.
    ours = np.concatenate([np.column_stack([column, boxes[0]]) for column in scores[0].T])
    if not len(theirs):
        return 0.0
    return _difference(np.abs(theirs[:, None] - ours[None]).max(-1).min(-1), theirs)
