"""What the oracle's operators work on: a model and the values made so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.espdl.arith import round_shift, saturate
from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.targets import Rounding

Array = NDArray[Any]


@dataclass(frozen=True)
class Run:
    """One inference: the model, its rounding, and every value made so far."""

    model: EspdlModel
    rounding: Rounding
    values: dict[str, Array]

    def tensor(self, name: str) -> Tensor:
        return self.model.tensors[name]

    def exponent(self, name: str) -> int:
        return self.model.tensors[name].exponent

    def finish(self, node: Node, values: NDArray[np.int64], exponent: Any) -> Array:
        """Integers at ``exponent`` (one, or one a channel) -> the node's first output."""
        y = self.tensor(node.outputs[0])
        return saturate(round_shift(values, y.exponent - np.asarray(exponent), self.rounding), y.dtype)

    def aligned(self, node: Node, *names: str) -> None:
        """Raise ``ModelError`` unless all ``names`` share one exponent."""
        found = {name: self.exponent(name) for name in names}
        if len(set(found.values())) != 1:
            raise ModelError(
                f"node {node.name!r} ({node.op}) has unaligned exponents {sorted(found.values())}",
                hint="quantize again with other calibration data",
            )
