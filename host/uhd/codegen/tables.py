"""The decode tables and the input table: integers that firmware looks up, defined in ``uhd/model.hpp``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.detect.decode import score_factors, sigmoid, softplus
from uhd.errors import ModelError
from uhd.espdl.model import EspdlModel, Tensor
from uhd.manifest import ModelManifest

#: 1.0 in the units of scores and coordinates.
ONE = 65535
#: Widest box, in multiples of the network input.
MAX_SIZE = 4
#: Outputs of the head that the decoder knows, in the order in which scores are multiplied.
SCORES = ("obj", "quality", "cls")

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """A tabulated function: ``values`` and the ``shift`` of ``Table16``/``Table32`` (0: direct, 6: knots)."""

    values: tuple[int, ...]
    shift: int


@dataclass(frozen=True)
class Decode:
    """Everything in the C++ ``DecodeSpec``. ``outputs`` and ``scores``: by map name; absent ones are not in them."""

    anchor_count: int
    class_count: int
    grid: tuple[int, int]
    top_k: int
    score_threshold_q16: int
    nms_iou_q16: int
    outputs: dict[str, int]
    box_xy: Table
    box_wh: tuple[Table, ...]
    scores: dict[str, Table]


def arguments(tensor: Tensor) -> tuple[Float64, int]:
    """Real values at which a function of an output is tabulated, and the table's shift.

    int8: at all 256 integers. int16: at every 64th from -32768 to 32768, for linear interpolation between them.
    """
    if tensor.dtype == "int8":
        return np.arange(-128, 128, dtype=np.float64) * 2.0**tensor.exponent, 0
    return np.arange(-32768, 32769, 64, dtype=np.float64) * 2.0**tensor.exponent, 6


def q16(values: Any, top: int = ONE) -> tuple[int, ...]:
    """Real values in units of 1 / 65535, rounded, within 0..top."""
    rounded = np.floor(np.asarray(values, np.float64) * ONE + 0.5)
    return tuple(int(v) for v in np.clip(rounded, 0, top))


def input_table(tensor: Tensor) -> tuple[int, ...]:
    """Integer of the input tensor for each network input value v / 255, rounded half up.

    With an exponent of 0 or less, as any input in 0..1 has, none is a tie: 255 is odd.
    """
    limits = np.iinfo(tensor.dtype)
    real = np.arange(256) / 255.0 * 2.0**-tensor.exponent
    return tuple(int(v) for v in np.clip(np.floor(real + 0.5), limits.min, limits.max))


def build_decode(model: EspdlModel, manifest: ModelManifest) -> Decode | None:
    """The decode tables for a model with an anchor head; None where the manifest has no anchors.

    Raises ``ModelError`` when outputs and manifest do not fit each other.
    """
    if not manifest.anchors:
        return None
    if "box" not in model.outputs:
        raise ModelError(
            f"the outputs {', '.join(model.outputs)} have no map named box",
            hint='export the model as flavour "parts", or generate without anchors in the manifest',
        )
    anchors = np.array(manifest.anchors)
    scale = np.array(manifest.wh_scale) if manifest.wh_scale else np.ones_like(anchors)
    if scale.shape != anchors.shape:
        raise ModelError(f"the manifest has {len(anchors)} anchors and {len(scale)} wh_scale rows")
    count = len(anchors)
    maps = {name: model.tensors[name] for name in ("box", *SCORES) if name in model.outputs}
    factors = score_factors(manifest.score_mode, frozenset(maps) - {"box"})
    classes = _check_maps(maps, factors, count, len(manifest.class_names))
    box, shift = arguments(maps["box"])
    sizes = (anchors * scale).reshape(-1)
    return Decode(
        anchor_count=count,
        class_count=classes,
        grid=(maps["box"].shape[1], maps["box"].shape[2]),
        top_k=min(manifest.top_k, 0xFFFF),
        score_threshold_q16=q16([manifest.score_threshold])[0],
        nms_iou_q16=q16([manifest.nms_iou])[0],
        outputs={name: model.outputs.index(name) for name in maps},
        box_xy=Table(q16(sigmoid(box)), shift),
        box_wh=tuple(Table(q16(size * softplus(box), MAX_SIZE * ONE), shift) for size in sizes),
        scores={name: _score_table(name, maps[name], manifest.quality_power) for name in SCORES if name in factors},
    )


def _score_table(name: str, tensor: Tensor, quality_power: float) -> Table:
    real, shift = arguments(tensor)
    score = sigmoid(real)
    return Table(q16(score**quality_power if name == "quality" else score), shift)


def _check_maps(maps: dict[str, Tensor], factors: tuple[str, ...], anchors: int, class_names: int) -> int:
    """The number of score columns. Raises ``ModelError`` for maps that do not fit the anchors or each other."""
    grid = maps["box"].shape
    classes = 1
    for name in ("box", *factors):
        shape = maps[name].shape
        if len(shape) != 4 or shape[:3] != grid[:3]:
            raise ModelError(f"map {name} is {list(shape)}, box is {list(grid)}", hint="export the model again")
        wanted = {"box": 4 * anchors, "cls": anchors * class_names}.get(name, anchors)
        if shape[3] != wanted:
            raise ModelError(
                f"map {name} has {shape[3]} channels, {anchors} anchors and {class_names} classes need {wanted}",
                hint="give the manifest that was exported with this model",
            )
        if name == "cls":
            classes = class_names
    return classes
