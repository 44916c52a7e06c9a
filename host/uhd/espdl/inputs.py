"""Integer arrays from outside, fitted to a model's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import DataError
from uhd.espdl.model import EspdlModel


def describe_inputs(model: EspdlModel) -> str:
    """The inputs that ``model`` wants, in one line: name, shape, data type."""
    return ", ".join(f"{n} {list(model.tensors[n].shape)} {model.tensors[n].dtype}" for n in model.inputs)


def coerce_inputs(model: EspdlModel, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """``arrays`` as the model's data types and shapes; a missing batch dimension of 1 is added.

    Raises ``DataError`` naming what is wanted if names, shapes, or the range of values differ.
    """
    wanted = describe_inputs(model)
    missing = [name for name in model.inputs if name not in arrays]
    extra = [name for name in arrays if name not in model.inputs]
    if missing or extra:
        what = f"no input array {missing[0]!r}" if missing else f"unknown input array {extra[0]!r}"
        raise DataError(what, hint=f"the model wants {wanted}")
    return {name: _coerce(name, np.asarray(arrays[name]), model, wanted) for name in model.inputs}


def _coerce(name: str, array: NDArray[Any], model: EspdlModel, wanted: str) -> NDArray[Any]:
    tensor = model.tensors[name]
    if array.dtype.kind not in "iu":
        raise DataError(f"input {name!r} is {array.dtype}, not integers", hint=f"the model wants {wanted}")
    if array.shape not in (tensor.shape, tensor.shape[1:]) or (array.shape != tensor.shape and tensor.shape[0] != 1):
        raise DataError(f"input {name!r} has shape {list(array.shape)}", hint=f"the model wants {wanted}")
    limits = np.iinfo(tensor.dtype)
    if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise DataError(
            f"input {name!r} holds values from {array.min()} to {array.max()}", hint=f"the model wants {wanted}"
        )
    return array.astype(tensor.dtype).reshape(tensor.shape)
