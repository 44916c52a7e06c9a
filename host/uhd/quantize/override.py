"""Setting esp-ppq's scales to given exponents, after its calibration. Imported by the quantizing process only."""

from __future__ import annotations

from typing import Any

import torch
from esp_ppq.core import QuantizationProperty
from esp_ppq.IR.quantize import QuantableOperation

from uhd.errors import ModelError
from uhd.quantize.trained import INPUT, Exponents, own_key

#: Different scales that float32 holds with room for a bias's; groups that meet lie closer together than that.
_SCALES = 97


def apply_exponents(graph: Any, exponents: Exponents) -> None:
    """Give every scale of ``graph`` that ``exponents`` names its value; biases follow.

    Scales without a name stay as calibrated: those inside a fused operator, which no file shows. What the file then
    says is checked by ``trained.require_exponents``. Raises ``ModelError`` where one scale would get two values, or a
    filter another number of them than it has channels.
    """
    given: dict[int, tuple[int, str]] = {}
    for operation in graph.operations.values():
        if not isinstance(operation, QuantableOperation):
            continue
        for index, (config, variable) in enumerate(
            zip(operation.config.input_quantization_config, operation.inputs, strict=False)
        ):
            if not variable.is_parameter:
                key = INPUT if variable.source_op is None else own_key(operation.name, index)
                if variable.source_op is None or not _same_as_producer(config, variable):
                    _set(config, key, exponents, given)
        for config, variable in zip(operation.config.output_quantization_config, operation.outputs, strict=False):
            _set(config, variable.name, exponents, given)
    for operation in graph.operations.values():
        if isinstance(operation, QuantableOperation) and operation.type == "Conv":
            _set_filter(operation, exponents)


def separate_scales(graph: Any) -> None:
    """Give every group of activations that shares a scale one of its own, so that the file shows the groups.

    Two groups with equal scales by chance would look like one: nothing is requantized between them.
    """
    roots: dict[int, Any] = {}
    operations = [operation for operation in graph.operations.values() if isinstance(operation, QuantableOperation)]
    for operation in operations:
        configs = zip(operation.config.input_quantization_config, operation.inputs, strict=False)
        used = [config for config, variable in configs if not variable.is_parameter]
        for config in (*used, *operation.config.output_quantization_config):
            roots.setdefault(id(config.dominated_by), config.dominated_by)
    for number, root in enumerate(roots.values()):
        root._scale = torch.tensor(2.0 ** -(number % _SCALES), dtype=torch.float32)
    for operation in operations:
        if operation.type == "Conv":
            _set_filter(operation, {})


def _same_as_producer(config: Any, variable: Any) -> bool:
    source = variable.source_op
    if not isinstance(source, QuantableOperation):
        return False
    made = source.config.output_quantization_config[source.outputs.index(variable)]
    return made.dominated_by is config.dominated_by


def _set(config: Any, key: str, exponents: Exponents, given: dict[int, tuple[int, str]]) -> None:
    if key not in exponents:
        return
    (exponent,) = exponents[key][:1]
    root = config.dominated_by
    before = given.setdefault(id(root), (exponent, key))
    if before[0] != exponent:
        raise ModelError(f"{key} and {before[1]} share a scale, but have exponents {exponent} and {before[0]}")
    root._scale = torch.tensor(2.0**exponent, dtype=torch.float32)


def _set_filter(operation: Any, exponents: Exponents) -> None:
    key = own_key(operation.name, 1)
    configs = operation.config.input_quantization_config
    if key in exponents:
        values = exponents[key]
        channels = operation.inputs[1].value.shape[0]
        per_channel = configs[1].policy.has_property(QuantizationProperty.PER_CHANNEL)
        if len(values) != (channels if per_channel else 1):
            wanted = f"{channels} exponents, one a channel" if per_channel else "one exponent"
            raise ModelError(f"{key} has {len(values)} exponents, but the chip takes {wanted}")
        scale = torch.tensor([2.0**value for value in values], dtype=torch.float32)
        configs[1].dominated_by._scale = scale if per_channel else scale[0]
        configs[1].dominated_by._offset = torch.zeros_like(configs[1].dominated_by._scale)
    if len(configs) > 2:
        configs[2].dominated_by._scale = configs[1].scale * configs[0].scale
        configs[2].dominated_by._offset = torch.zeros_like(configs[2].dominated_by._scale)
