"""Every layer of a .espdl on real pictures: what its integers are, and how far they are from the float model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uhd.espdl import oracle
from uhd.espdl.inspect import Layer, inspect_model
from uhd.espdl.lint import accumulator_bounds
from uhd.espdl.model import EspdlModel, Node
from uhd.explain.floating import FloatModel, as_planes
from uhd.explain.tally import Counts, Noise, Spread
from uhd.predict.latency import OpTime
from uhd.quantize import accumulators

if TYPE_CHECKING:
    from uhd.explain.accuracy import Cost

#: Iterates over a sequence and says how far it is; the second argument is what it is called.
Track = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Picture:
    """One network input: the model's integers [1, H, W, C], and the float model's values [1, C, H, W]."""

    integers: NDArray[Any]
    planes: NDArray[np.float32]


@dataclass(frozen=True)
class Accumulator:
    """Sums of a convolution whose lanes are narrow. ``limit``: the largest magnitude a lane holds.

    ``bound``: the largest sum that any input could give; ``reached``: the largest that a picture gave; ``partial``: the
    largest that some order of summation passes through on the way there.
    """

    limit: int
    bound: int
    reached: int
    partial: int

    @property
    def bound_headroom(self) -> float:
        """Bits left above ``bound``; negative if some input overflows."""
        return headroom(self.limit, self.bound)

    @property
    def reached_headroom(self) -> float:
        """Bits left above ``reached``."""
        return headroom(self.limit, self.reached)


def headroom(limit: int, largest: int) -> float:
    """log2(limit / largest): bits that a sum leaves unused."""
    return math.log2(limit / max(largest, 1))


@dataclass
class LayerStudy:
    """One layer. Ratios of signal to quantization noise in dB, None where the layer has no partner.

    ``sqnr``: of its output in the whole integer model. ``own_sqnr``: if it alone computed in integers. ``sums_sqnr``:
    of that without rounding the output, so that the noise is that of filter and bias. ``filter_sqnr``: of the filter.
    ``maps_sqnr``: of the worst output map, and ``cost`` in mAP, if it alone computed in integers.
    """

    layer: Layer
    node: Node
    spread: Spread
    partner: str | None
    no_partner: str
    sqnr: float | None
    own_sqnr: float | None
    sums_sqnr: float | None
    filter_sqnr: float | None
    accumulator: Accumulator | None
    time: OpTime | None = None
    cost: Cost | None = None
    maps_sqnr: float | None = None


def study(
    model: EspdlModel, floating: FloatModel | None, pictures: Sequence[Picture], track: Track | None = None
) -> list[LayerStudy]:
    """Run all ``pictures`` through the oracle, and through the float model if there is one.

    Layers come in the order in which they run. Raises ``DataError`` for pictures that do not fit the model.
    """
    track = track or (lambda items, title: items)
    nodes = model.nodes
    keys = [node.outputs[0] for node in nodes]  # of a checked graph, unlike names, they are all different
    counts = {key: Counts(model.tensors[key].dtype) for key in keys}
    noise = {key: Noise() for key in keys}
    own = {key: Noise() for key in keys}
    unrounded = {key: Noise() for key in keys}
    sums: dict[str, tuple[int, int]] = {}
    beside = floating.with_all_beside() if floating else None
    alone, before_rounding = (beside.alone, beside.sums) if beside else ({}, {})
    for picture in track(pictures, "photos"):
        inputs = {model.inputs[0]: picture.integers}
        made = oracle.run(model, inputs, keep_all=True)
        real = beside.session.run(picture.planes) if beside else {}
        for key in keys:
            counts[key].add(made[key])
            if floating and key in alone:
                wanted = real[floating.partners[key].tensor]
                noise[key].add(wanted, as_planes(made[key], model.tensors[key].exponent))
                own[key].add(wanted, real[alone[key]])
                if key in before_rounding:
                    unrounded[key].add(wanted, real[before_rounding[key]])
        for item in accumulators.measure(model, [inputs], lambda *_, made=made: made):
            final, partial = sums.get(item.operator, (0, 0))
            sums[item.operator] = (max(final, item.final), max(partial, item.partial))
    limits = {node.name: limit for node, limit in accumulators.limited_convolutions(model)}
    found = []
    for layer, node in zip(inspect_model(model).layers, nodes, strict=True):
        name, key = node.name, node.outputs[0]
        partner = floating.partners[key] if floating else None
        filters = floating.filters(node) if floating else None
        filter_noise = Noise()
        if filters:
            filter_noise.add(*filters)
        accumulator = None
        if name in limits and name in sums:
            low, high = accumulator_bounds(node, model)
            accumulator = Accumulator(limits[name], max(-low, high), *sums[name])
        found.append(
            LayerStudy(
                layer=layer,
                node=node,
                spread=counts[key].spread(),
                partner=partner.tensor if partner and not partner.reason else None,
                no_partner=partner.reason if partner else "no float model",
                sqnr=noise[key].db if key in alone else None,
                own_sqnr=own[key].db if key in alone else None,
                sums_sqnr=unrounded[key].db if key in before_rounding else None,
                filter_sqnr=filter_noise.db if filters else None,
                accumulator=accumulator,
            )
        )
    return found
