"""Runs a lowered program step by step with the compiled kernels, in an arena laid out by its memory plan.

The same kernels, constants and addresses as the generated code, without compiling any: fast enough for properties.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support import kernels
from uhd.codegen.plan import MemoryPlan
from uhd.codegen.steps import Argument, ConstantRef, DataBase, DescriptorRef, Fields, Program, Ref, Scratch, Step

_NAMES = {
    "conv_gemm": "gemm", "conv_depthwise": "depthwise", "conv_any": "any", "spatial_mean": "mean",
    "resize_nearest": "resize", "lookup8": "lookup_8", "lookup16": "lookup",
}  # fmt: skip


def symbol(kernel: str) -> str:
    """``conv_gemm<int8_t, HalfUp>`` -> ``gemm_8u``."""
    name, _, rest = kernel.partition("<")
    words = re.findall(r"\w+", rest)
    bits = [re.sub(r"\D", "", w) for w in words if w.startswith("int")]
    rounding = "".join({"HalfUp": "u", "HalfEven": "e"}.get(w, "") for w in words)
    if name == "lookup16":
        return f"lookup_16{rounding}"
    sizes = "to".join(bits) if len(set(bits)) > 1 else "".join(bits[:1])
    suffix = f"{sizes}{rounding}"
    return "_".join(filter(None, (_NAMES.get(name, name), suffix)))


def structure(kind: str, fields: Fields) -> Any:
    """A ctypes descriptor from its fields."""
    made = getattr(kernels, kind)()
    for name, value in fields.items():
        if isinstance(value, Mapping):
            value = structure("Window", value)
        elif isinstance(value, tuple):
            value = (ctypes.c_uint32 * len(value))(*value)
        setattr(made, name, value)
    return made


class Runner:
    """A program ready to run. ``scalar`` chooses the device's lanes; ``keep`` fills ``seen`` with every result."""

    def __init__(self, program: Program, plan: MemoryPlan, *, scalar: bool = False) -> None:
        self.program, self.plan = program, plan
        self._library = kernels.library(scalar)
        self._raw, self._arena = kernels.guarded(plan.arena_bytes, np.uint8)
        self._data_raw, self._data = kernels.guarded(len(program.data), np.uint8)
        self._data[:] = np.frombuffer(program.data, np.uint8)
        self._descriptors = [structure(s.struct, s.fields) if s.struct else None for s in program.steps]

    def run(self, inputs: Mapping[str, NDArray[Any]], *, inside: bool = True) -> dict[str, NDArray[Any]]:
        """One inference, with input and outputs inside the arena or in buffers of their own."""
        self._arena[:] = 0xA5  # nothing may depend on what was there
        places: dict[str, NDArray[Any]] = {}
        for name in (*self.program.inputs, *self.program.outputs):
            value = self.program.values[name]
            dtype = value.ctype.removesuffix("_t")
            if inside:
                start = self.plan.offsets[name]
                places[name] = self._arena[start : start + value.size].view(dtype)
            else:
                places[name] = np.zeros(value.elements, dtype)
        for name, array in inputs.items():
            places[name][:] = array.reshape(-1)
        for index, step in enumerate(self.program.steps):
            call = getattr(self._library, symbol(step.kernel))
            call.restype = None
            call(*(self._argument(a, step, index, places) for a in step.arguments))
        assert kernels.guards_intact(self._raw, self._arena), "a kernel wrote outside the arena"
        assert self._data.tobytes() == self.program.data, "a kernel wrote to the constants"
        values = self.program.values
        return {name: places[name].reshape(values[name].shape).copy() for name in self.program.outputs}

    def _argument(self, argument: Argument, step: Step, index: int, places: Mapping[str, NDArray[Any]]) -> Any:
        if isinstance(argument, Ref):
            root, offset = self.program.root(argument.tensor)
            value = self.program.values[root]
            base = places[root].ctypes.data if root in places else self._arena.ctypes.data + self.plan.offsets[root]
            return ctypes.c_void_p(base + (offset + argument.offset) * value.bytes)
        if isinstance(argument, ConstantRef):
            return ctypes.c_void_p(self._data.ctypes.data + argument.offset)
        if isinstance(argument, Scratch):
            return ctypes.c_void_p(self._arena.ctypes.data + self.plan.scratch[index])
        if isinstance(argument, DataBase):
            return kernels.pointer(self._data)
        if isinstance(argument, DescriptorRef):
            return ctypes.byref(self._descriptors[index])
        return ctypes.c_uint32(int(argument))
