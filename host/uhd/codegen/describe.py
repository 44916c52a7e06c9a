"""What the firmware knows of a model: the values of the C++ ``ModelInfo``, before anyone writes them down.

``info.cpp`` and model packages are two spellings of the same ``Description``.
"""

from __future__ import annotations

from dataclasses import dataclass

from uhd.codegen.plan import MemoryPlan
from uhd.codegen.tables import Decode, build_decode, input_table
from uhd.espdl.model import EspdlModel, Tensor
from uhd.manifest import ModelManifest


@dataclass(frozen=True)
class TensorRow:
    """A C++ ``TensorInfo``: [height, width, channels] integers of ``bytes`` each, real value = q * 2**exponent."""

    name: str
    height: int
    width: int
    channels: int
    bytes: int
    exponent: int
    arena_offset: int


@dataclass(frozen=True)
class Description:
    """A C++ ``ModelInfo``. ``variant`` is empty without one; ``decode`` is None for a model without an anchor head."""

    name: str
    variant: str
    target: str
    espdl_sha256: str
    espdl_size: int
    arena_size: int
    input: TensorRow
    outputs: tuple[TensorRow, ...]
    input_table: tuple[int, ...]
    decode: Decode | None


def describe(model: EspdlModel, manifest: ModelManifest, plan: MemoryPlan, espdl_size: int) -> Description:
    """The description of a model with its memory plan. Raises ``ModelError`` if the manifest does not fit it."""

    def row(name: str) -> TensorRow:
        return _row(model.tensors[name], plan.offsets[name])

    source = model.inputs[0]
    return Description(
        name=manifest.name,
        variant=manifest.variant or "",
        target=model.target,
        espdl_sha256=model.sha256,
        espdl_size=espdl_size,
        arena_size=plan.arena_bytes,
        input=row(source),
        outputs=tuple(row(name) for name in model.outputs),
        input_table=input_table(model.tensors[source]),
        decode=build_decode(model, manifest),
    )


def _row(tensor: Tensor, arena_offset: int) -> TensorRow:
    height, width, channels = ((1,) * (4 - len(tensor.shape)) + tensor.shape)[1:]
    size = 1 if tensor.dtype == "int8" else 2
    return TensorRow(tensor.name, height, width, channels, size, tensor.exponent, arena_offset)
