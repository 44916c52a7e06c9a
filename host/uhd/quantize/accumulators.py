"""Does every sum fit the accumulator? On the ESP32-S3 an int8 convolution sums in lanes of 20 bits.

esp-ppq and the integer engines sum without limits, so only this check sees an overflow. The static bound assumes the
worst input and is a note; what counts is the largest sum on real pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.espdl.model import EspdlModel, Node
from uhd.quantize.lints import Finding
from uhd.targets import TARGETS

#: Runs a model on one picture: {input: NHWC integers} -> every activation by name.
RunAll = Callable[[EspdlModel, dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]

_WAY_OUT = "compute this operator in int16 (40-bit lanes), or train with smaller weights"


@dataclass(frozen=True)
class SumRange:
    """Extremes of one convolution's sums, bias included.

    ``final`` is the largest magnitude of a finished sum. ``partial`` is the largest that any order of summation can
    pass through on the way: all positive products first, or all negative ones.
    """

    operator: str
    final: int
    partial: int


def _dense_filter(node: Node, model: EspdlModel) -> NDArray[np.int64]:
    """[N, H, W, C] filter as int64; depthwise as [1, H, W, N]."""
    data = model.tensors[node.inputs[1]].data
    assert data is not None
    return data.astype(np.int64)


def _bias(node: Node, model: EspdlModel) -> NDArray[np.int64]:
    channels = model.tensors[node.outputs[0]].shape[-1]
    if len(node.inputs) < 3 or not node.inputs[2]:
        return np.zeros(channels, np.int64)
    data = model.tensors[node.inputs[2]].data
    assert data is not None
    return data.astype(np.int64).reshape(-1)


def limited_convolutions(model: EspdlModel) -> Iterator[tuple[Node, int]]:
    """The int8 convolutions whose accumulator is narrower than 32 bits, with the largest magnitude it holds."""
    bits = TARGETS[model.target].accumulator_bits_int8
    if bits >= 32:
        return
    for node in model.nodes:
        if node.op == "Conv" and node.bits == 8:
            yield node, 2 ** (bits - 1) - 1


def worst_case(model: EspdlModel, node: Node) -> int:
    """Largest sum any int8 input could produce: sum of |w| * 128, plus |bias|, over the output channels."""
    weight = np.abs(_dense_filter(node, model))
    depthwise = int(node.attributes.get("group", 1)) > 1
    total = weight.sum(axis=(0, 1, 2)) if depthwise else weight.sum(axis=(1, 2, 3))
    return int((total * 128 + np.abs(_bias(node, model))).max())


def _patches(node: Node, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """[OH, OW, KH, KW, C] windows of a zero-padded [H, W, C] map."""
    top, left, bottom, right = node.attributes.get("pads", [0, 0, 0, 0])
    step_y, step_x = node.attributes.get("strides", [1, 1])
    gap_y, gap_x = node.attributes.get("dilations", [1, 1])
    kernel_y, kernel_x = node.attributes["kernel_shape"]
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)))
    span = ((kernel_y - 1) * gap_y + 1, (kernel_x - 1) * gap_x + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(0, 1))
    return windows[::step_y, ::step_x, :, ::gap_y, ::gap_x].transpose(0, 1, 3, 4, 2)


def _sums(node: Node, image: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact sums of a convolution without bias: float64 holds integers to 2^53, and BLAS is fast on it."""
    patches = _patches(node, image)
    if int(node.attributes.get("group", 1)) > 1:
        return np.einsum("yxhwc,hwc->yxc", patches, weight[0])
    height, width = patches.shape[:2]
    return (patches.reshape(height * width, -1) @ weight.reshape(weight.shape[0], -1).T).reshape(height, width, -1)


def measure(model: EspdlModel, pictures: Sequence[dict[str, NDArray[Any]]], run_all: RunAll) -> list[SumRange]:
    """Largest sums of each limited convolution over ``pictures`` ({input: [1,H,W,C] integers})."""
    nodes = [node for node, _ in limited_convolutions(model)]
    extremes = {node.name: (0, 0) for node in nodes}
    for inputs in pictures if nodes else ():
        activations = {**inputs, **run_all(model, inputs)}
        for node in nodes:
            image = np.asarray(activations[node.inputs[0]])[0].astype(np.float64)
            weight = _dense_filter(node, model).astype(np.float64)
            bias = _bias(node, model)
            total = _sums(node, image, weight)
            span = _sums(node, np.abs(image), np.abs(weight))
            above = (span + total) / 2 + np.maximum(bias, 0)
            below = (span - total) / 2 - np.minimum(bias, 0)
            final, partial = extremes[node.name]
            extremes[node.name] = (
                max(final, int(np.abs(total + bias).max())),
                max(partial, int(above.max()), int(below.max())),
            )
    return [SumRange(name, final, partial) for name, (final, partial) in extremes.items()]


def bound_findings(model: EspdlModel) -> list[Finding]:
    """A note for each convolution whose worst case exceeds its accumulator."""
    found = []
    for node, limit in limited_convolutions(model):
        bound = worst_case(model, node)
        if bound > limit:
            found.append(Finding(
                "note", node.name, f"some input could sum to {bound:,}, and a lane holds {limit:,}",
                "the measured sums decide; see the largest sum on calibration pictures", "accumulator-bound",
            ))  # fmt: skip
    return found


def range_findings(model: EspdlModel, ranges: Iterable[SumRange], pictures: int) -> list[Finding]:
    """An error where a finished sum on real pictures exceeds the lane, a warning where a partial sum may."""
    limits = {node.name: limit for node, limit in limited_convolutions(model)}
    found = []
    for item in ranges:
        limit = limits[item.operator]
        if item.final > limit:
            found.append(Finding(
                "error", item.operator,
                f"a sum reached {item.final:,} on {pictures} pictures, and a lane holds {limit:,}",
                _WAY_OUT, "accumulator-range",
            ))  # fmt: skip
        elif item.partial > limit:
            found.append(Finding(
                "warning", item.operator,
                f"a partial sum can reach {item.partial:,} on {pictures} pictures, and a lane holds {limit:,}",
                _WAY_OUT, "accumulator-partial",
            ))  # fmt: skip
    return found
