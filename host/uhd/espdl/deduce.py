"""Which chip a .espdl file was quantized for. The file does not say; its filters and biases do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uhd.errors import ModelError
from uhd.espdl.layout import LANES
from uhd.espdl.model import Tensor
from uhd.targets import TARGETS


@dataclass(frozen=True)
class FilterFacts:
    """A node with a filter: its name, the file's layout note, and the tensors in logical order."""

    node: str
    layout: str
    weight: Tensor
    bias: Tensor | None


def _candidates(fact: FilterFacts) -> set[str]:
    """The targets that one filter is consistent with."""
    names = {"c"} if LANES[fact.layout] == 1 else {"esp32s3", "esp32p4"}
    channels = max(fact.weight.shape[0], fact.weight.shape[3] if fact.weight.shape[0] == 1 else 0)
    if len(fact.weight.exponents) > 1:
        names = {n for n in names if TARGETS[n].per_channel_weights}
    elif channels > 1:
        names = {n for n in names if not TARGETS[n].per_channel_weights}
    bias = fact.bias.data if fact.bias is not None else None
    if bias is not None and bias.size and bias.dtype.kind == "i" and fact.weight.dtype == "int8":
        low, high = int(bias.min()), int(bias.max())
        bits = max(high, -low - 1, 0).bit_length() + 1
        names = {n for n in names if bits <= TARGETS[n].bias_bits_int8}
    return names


def deduce_target(facts: Sequence[FilterFacts], target: str | None) -> str:
    """The target that all filters agree on; ``target`` decides where several fit (else c, then esp32s3).

    Raises ``ModelError`` if the filters contradict each other or ``target``, or ``target`` is unknown.
    """
    if target is not None and target not in TARGETS:
        raise ModelError(f"unknown target {target!r}", hint="choose one of " + ", ".join(TARGETS))
    possible = set(TARGETS)
    for fact in facts:
        narrowed = possible & _candidates(fact)
        if not narrowed:
            raise ModelError(
                f"the filter of node {fact.node!r} fits no target that the rest of the file fits",
                hint="quantize the model again",
            )
        possible = narrowed
    if target is None:
        return next(name for name in TARGETS if name in possible)
    if target not in possible:
        found = " or ".join(name for name in TARGETS if name in possible)
        against = next((f" (see the filter of node {f.node!r})" for f in facts if target not in _candidates(f)), "")
        raise ModelError(f"quantized for {found}, not for {target}{against}", hint=f"quantize the model for {target}")
    return target
