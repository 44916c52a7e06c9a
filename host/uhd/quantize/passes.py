"""Three repairs of esp-ppq 1.3.12 where int8 and int16 meet. Imported by the quantizing process only.

1. A pooling operator whose producer has another precision gets independent input and output scales, but ESP-DL's
   pooling copies integers: ``TiePassiveScales`` makes the two equal.
2. Add and Concat force their output's scale on the operators before them, whatever their precision: an int8 producer
   of an int16 Add then saturates at 127 of the int16's tiny steps. ``AlignSamePrecision`` leaves such producers their
   own scale, and a RequantizeLinear between them converts.
3. That conversion is only inserted where two scales differ by 1e-5 or more, absolutely. int16 scales are mostly
   smaller than that, so ``RequantizeByExponent`` compares exponents instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from esp_ppq.core import PASSIVE_OPERATIONS
from esp_ppq.IR.quantize import QuantableOperation
from esp_ppq.parser import espdl_exporter
from esp_ppq.parser.espdl.espdl_graph_utils import insert_requantize_node
from esp_ppq.parser.espdl.espdl_typedef import QUANT_OP_SET, ExporterPatternInfo
from esp_ppq.parser.espdl.export_patterns import EspdlQuantHelper, InsertRequantNodePattern
from esp_ppq.quantization.optim import QuantAlignmentPass, QuantizationOptimizationPass, QuantizeFusionPass


class TiePassiveScales(QuantizationOptimizationPass):  # type: ignore[misc]
    """Operators that only move integers share one scale between input and outputs. Runs before calibration."""

    def __init__(self) -> None:
        super().__init__("Tie Scales Of Passive Operators")

    def optimize(self, graph: Any, **_: Any) -> None:
        for operation in graph.operations.values():
            if operation.type not in PASSIVE_OPERATIONS or not isinstance(operation, QuantableOperation):
                continue
            source = operation.config.input_quantization_config[0]
            for config in operation.config.output_quantization_config:
                if config.dominated_by != source.dominated_by:
                    config.dominated_by = source


class _SamePrecisionView:
    """A graph in which an operator's producers are only those of its own precision."""

    def __init__(self, graph: Any) -> None:
        self.operations = graph.operations
        self.get_downstream_operations = graph.get_downstream_operations
        self._graph = graph

    def get_upstream_operations(self, operation: Any) -> list[Any]:
        producers = self._graph.get_upstream_operations(operation)
        return [p for p in producers if isinstance(p, QuantableOperation) and _bits(p) == _bits(operation)]


def _bits(operation: Any) -> int:
    return int(operation.config.output_quantization_config[0].num_of_bits)


class AlignSamePrecision(QuantAlignmentPass):  # type: ignore[misc]
    """esp-ppq's alignment, kept from crossing a border between precisions."""

    def optimize(self, graph: Any, **kwargs: Any) -> None:
        super().optimize(_SamePrecisionView(graph), **kwargs)


class RequantizeByExponent(InsertRequantNodePattern):  # type: ignore[misc]
    """Insert a RequantizeLinear wherever producer and consumer differ in bits or in exponent."""

    def export(self, op: Any, graph: Any, **_: Any) -> Any:
        if op.type in QUANT_OP_SET or not isinstance(op, QuantableOperation):
            return op
        layout = ExporterPatternInfo()
        for config, variable in list(op.config_with_variable):
            source = variable.source_op
            if variable.is_parameter or variable not in op.inputs or not isinstance(source, QuantableOperation):
                continue
            if source.type in QUANT_OP_SET or not EspdlQuantHelper.TQC_Exportable_Check(config, variable):
                continue
            upstream = source.output_quant_config[source.outputs.index(variable)]
            if upstream.num_of_bits == config.num_of_bits and _exponent(upstream) == _exponent(config):
                continue
            created = insert_requantize_node(graph=graph, var=variable, upstream_config=upstream, config=config, op=op)
            order = layout.get_var_permute(variable.name)
            if order:
                layout.add_var_permute(created.outputs[0].name, order)
        return op


def _exponent(config: Any) -> int:
    return round(math.log2(float(torch.as_tensor(config.scale).max())))


def amend_pipeline(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A quantizer's ``build_quant_pipeline`` with repairs 1 and 2 in it."""

    def amended(setting: Any) -> Any:
        pipeline = build(setting)
        steps: list[Any] = []
        for step in pipeline:
            if type(step) is QuantAlignmentPass:
                step = AlignSamePrecision(
                    elementwise_alignment=step.elementwise_alignment,
                    concat_alignment=step.concat_alignment,
                    pooling_alignment=step.pooling_alignment,
                    resize_alignment=step.resize_alignment,
                    force_overlap=step.force_overlap,
                )
            steps.append(step)
            if type(step) is QuantizeFusionPass:
                steps.append(TiePassiveScales())
        return type(pipeline)(steps)

    return amended


def amend_exporter() -> None:
    """Make esp-ppq's exporter use repair 3."""
    espdl_exporter.InsertRequantNodePattern = RequantizeByExponent
