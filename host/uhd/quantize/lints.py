"""What is wrong, slow or doubtful about a quantized model on its chip, operator by operator.

Facts: ESP-DL 3.3.9 and esp-ppq 1.3.12, read and measured. An ``error`` gives wrong numbers on the chip, a ``warning``
may, a ``note`` costs time or memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.quantize.patterns import TABLE_ACTIVATIONS
from uhd.targets import TARGETS, Target

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

#: Larger filters outgrow the 64 KB data cache together with what else is in it, and ESP-DL reads a filter once for
#: every output pixel: then from PSRAM.
FILTER_CACHE_BYTES = 48 * 1024


@dataclass(frozen=True)
class Finding:
    """One remark. ``operator`` is a node's name, or empty for the whole model; ``rule`` names the check."""

    severity: Severity
    operator: str
    message: str
    way_out: str
    rule: str = ""

    def __str__(self) -> str:
        where = f"{self.operator}: " if self.operator else ""
        return f"{self.severity}: {where}{self.message}; {self.way_out}"


Rule = Callable[[EspdlModel, Target], Iterator[Finding]]


def check(model: EspdlModel, target: str | None = None) -> list[Finding]:
    """All findings, errors first, each group in execution order.

    ``target`` is the chip the model is meant for; None takes the one it was quantized for. Raises ``KeyError`` for an
    unknown target.
    """
    chip = TARGETS[target or model.target]
    found = [finding for rule in _RULES for finding in rule(model, chip)]
    return sort_findings(found)


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes; otherwise in the order given."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _tensors(model: EspdlModel, names: Iterable[str]) -> list[Tensor]:
    return [model.tensors[name] for name in names if name]


def _activations(model: EspdlModel, node: Node) -> list[Tensor]:
    """The node's inputs that are not constants."""
    return [tensor for tensor in _tensors(model, node.inputs) if tensor.data is None]


def _layout(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    if model.target != chip.name:
        yield Finding(
            "error", "", f"filters are laid out for {model.target}, not for {chip.name}",
            f"quantize the model again with --target {chip.name}: it would load and compute nonsense", "layout",
        )  # fmt: skip


def _resize_int16(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    for node in model.nodes:
        if node.op == "Resize" and (node.bits == 16 or model.tensors[node.outputs[0]].dtype == "int16"):
            yield Finding(
                "error", node.name, "ESP-DL's int16 Resize is an empty function: the output is whatever was in memory",
                "keep this operator at int8", "resize-int16",
            )  # fmt: skip


def _w8a16(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    for node in model.nodes:
        if node.attributes.get("quant_type") == "W8A16":
            yield Finding(
                "error", node.name, "ESP-DL 3.3.9 does not know quant_type W8A16",
                "use int8, or int16 weights and activations", "w8a16",
            )  # fmt: skip


def _alignment(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    copies = {"Add": "adds", "Sub": "subtracts", "Concat": "copies", "MaxPool": "copies", "Relu": "copies"}
    for node in model.nodes:
        if node.op not in copies:
            continue
        tensors = _activations(model, node) + _tensors(model, node.outputs)
        exponents = [tensor.exponent for tensor in tensors]
        if len(set(exponents)) > 1 or len({tensor.dtype for tensor in tensors}) > 1:
            shown = ", ".join(f"{t.name} {t.dtype} 2^{t.exponent}" for t in tensors)
            yield Finding(
                "error", node.name, f"{node.op} {copies[node.op]} integers, but they mean different things: {shown}",
                "quantize again; if it stays, change the precision of this operator or of those before it",
                "alignment",
            )  # fmt: skip


def _negative_shift(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    for node in model.nodes:
        if node.op not in ("Conv", "Gemm", "MatMul", "Mul"):
            continue
        first, second = (model.tensors[name] for name in node.inputs[:2])
        out = model.tensors[node.outputs[0]]
        shift = out.exponent - first.exponent - max(second.exponents)
        if shift < 0:
            yield Finding(
                "warning" if chip.name == "c" else "error", node.name,
                f"its output exponent {out.exponent} is finer than the sum's {first.exponent + max(second.exponents)}",
                "ESP-DL shifts right only: calibrate with other photos or another algorithm, or use int8 here",
                "negative-shift",
            )  # fmt: skip


def _float(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    for node in model.nodes:
        if node.attributes.get("quant_type") == "F32" or node.op in ("QuantizeLinear", "DequantizeLinear"):
            yield Finding(
                "warning", node.name, f"{node.op} is not quantized and runs in floating point",
                "leave this operator out of the exported model", "float",
            )  # fmt: skip


def _tables(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    for node in model.nodes:
        if node.op not in TABLE_ACTIVATIONS or node.attributes.get("quant_type") == "F32":
            continue
        if node.bits == 16:
            yield Finding(
                "warning", node.name, f"int16 {node.op} is computed in floating point, slowly and not to the bit",
                "keep this operator at int8, where it is a table of 256 entries", "table-int16",
            )  # fmt: skip
        elif "lut" not in node.attributes:
            yield Finding(
                "warning", node.name, f"int8 {node.op} has no table and is computed in floating point",
                "quantize the model again with esp-ppq 1.3.12", "table-missing",
            )  # fmt: skip


def _pool(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    for node in model.nodes:
        kernel = node.attributes.get("kernel_shape")
        if node.op not in ("MaxPool", "AveragePool") or not isinstance(kernel, list):
            continue
        height, width = model.tensors[node.inputs[0]].shape[1:3]
        if kernel[0] > height or kernel[-1] > width:
            yield Finding(
                "warning", node.name, f"its {kernel[0]}x{kernel[-1]} window is larger than the {height}x{width} map",
                "ESP-DL's pooling has crashed on such maps: use a larger input", "pool-window",
            )  # fmt: skip


def _filters(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    if chip.idf_target is None:
        return
    for node in model.nodes:
        if node.op != "Conv":
            continue
        weight = model.tensors[node.inputs[1]]
        size = int(np.prod(weight.shape)) * np.dtype(weight.dtype).itemsize
        if size > FILTER_CACHE_BYTES:
            yield Finding(
                "note", node.name, f"its filter of {size / 1024:.0f} KB outgrows the data cache beside other data",
                "ESP-DL reads it again for every pixel: quantize with --split-filters, or keep weights in internal RAM",
                "filter-size",
            )  # fmt: skip


def _lanes(model: EspdlModel, chip: Target) -> Iterator[Finding]:
    if chip.idf_target is None:
        return
    for node in model.nodes:
        if node.op != "Conv":
            continue
        lanes = chip.lanes_int16 if node.bits == 16 else chip.lanes_int8
        channels_in = model.tensors[node.inputs[0]].shape[-1]
        channels_out = model.tensors[node.outputs[0]].shape[-1]
        odd = sorted({count for count in (channels_in, channels_out) if count % lanes})
        if odd:
            yield Finding(
                "note", node.name, f"{' and '.join(map(str, odd))} channels are no multiple of the {lanes} lanes",
                "it takes ESP-DL's slower unaligned path: a width of 16, 32, 48 or 64 avoids it inside the network",
                "lanes",
            )  # fmt: skip


_RULES: tuple[Rule, ...] = (
    _layout, _resize_int16, _w8a16, _alignment, _negative_shift, _float, _tables, _pool, _filters, _lanes,
)  # fmt: skip
