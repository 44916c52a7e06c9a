"""The host twin: the device's own code, compiled for this machine and called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.device.compile import compile_twin
from uhd.device.results import rows_from_q16
from uhd.errors import DataError, DeviceError

#: Units of thresholds: 1 / 65535.
_ONE = 65535
_ALIGNMENT = 16


@dataclass(frozen=True)
class TensorInfo:
    """A model input or output: [1, H, W, C] integers, real value = integer * 2**exponent."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    exponent: int
    arena_offset: int

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class TwinInfo:
    """What the compiled model says of itself. ``decode`` is None for a model without an anchor head."""

    name: str
    variant: str
    target: str
    hash: str
    espdl_size: int
    arena_size: int
    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    decode: dict[str, int] | None


def _tensor(entry: Mapping[str, Any]) -> TensorInfo:
    dtype = "int8" if entry["bytes"] == 1 else "int16"
    return TensorInfo(entry["name"], tuple(entry["shape"]), dtype, entry["exponent"], entry["arena_offset"])


class Twin:
    """The twin of a generated component. Not for several threads at once: all calls share one arena."""

    def __init__(self, component: Path) -> None:
        """Compile (unless done before) and load ``component``.

        Raises ``ToolMissingError`` without a C++ compiler, ``UhdError`` where it does not compile, ``DeviceError``
        where the embedded .espdl is not the one that the component names.
        """
        self._library = ctypes.CDLL(str(compile_twin(component)))
        self._library.uhd_twin_espdl.restype = ctypes.c_void_p
        text = ctypes.create_string_buffer(1 << 20)
        self._library.uhd_twin_info(text, ctypes.c_size_t(len(text)))
        entry = json.loads(text.value)
        entry |= {"input": _tensor(entry["input"]), "outputs": tuple(map(_tensor, entry["outputs"]))}
        self.info = TwinInfo(**entry)
        if hashlib.sha256(self.espdl()).hexdigest() != self.info.hash:
            raise DeviceError(f"{component}: the embedded .espdl is not the one it names", hint="generate it again")
        memory = np.zeros(self.info.arena_size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        self._arena = memory[start : start + self.info.arena_size]

    def espdl(self) -> bytes:
        """The embedded model file."""
        return ctypes.string_at(self._library.uhd_twin_espdl(), self.info.espdl_size)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One inference: integers by name, [1, H, W, C] or [H, W, C], to all outputs by name, [1, H, W, C].

        Raises ``DataError`` for names, shapes or values that are not the model's.
        """
        source = self._fitted(inputs)
        outputs = {t.name: np.empty(t.shape, t.dtype) for t in self.info.outputs}
        self._call(source.ctypes.data, [a.ctypes.data for a in outputs.values()])
        return outputs

    def run_in_arena(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The same with input and outputs inside the arena, as the device runs it."""
        source, place = self._fitted(inputs), self.info.input
        self._arena[place.arena_offset : place.arena_offset + place.size] = source.reshape(-1).view(np.uint8)
        base = self._arena.ctypes.data
        self._call(base + place.arena_offset, [base + t.arena_offset for t in self.info.outputs])
        return self._outputs_in_arena()

    def detect(
        self, network: NDArray[np.uint8], score_threshold: float, nms_iou: float, top_k: int, limit: int | None = None
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[Any]]]:
        """Network input uint8 [H, W, C] to (rows [score, class, cx, cy, w, h], outputs), as the device sends them.

        Rows are best first, at most ``limit``, rounded as on the link; coordinates in units of the picture. ``top_k``
        candidates enter NMS. Raises ``DataError`` for another shape, ``DeviceError`` if the model has no anchor head.
        """
        if self.info.decode is None:
            raise DeviceError(f"model {self.info.name} has no anchor head", hint="read its raw outputs instead")
        picture = np.ascontiguousarray(network, np.uint8)
        if picture.shape != self.info.input.shape[1:]:
            raise DataError(f"network input of shape {list(picture.shape)}, not {list(self.info.input.shape[1:])}")
        rows = np.zeros((max(top_k, 1), 6), np.int32)
        candidates = ctypes.c_uint32()
        count = self._library.uhd_twin_detect_network(
            ctypes.c_void_p(picture.ctypes.data), ctypes.c_void_p(self._arena.ctypes.data),
            ctypes.c_uint16(round(score_threshold * _ONE)), ctypes.c_uint16(round(nms_iou * _ONE)),
            ctypes.c_uint16(top_k), ctypes.c_void_p(rows.ctypes.data), ctypes.byref(candidates),
        )  # fmt: skip
        if count < 0:
            raise DeviceError(f"the twin reports status {-count}")
        return rows_from_q16(rows[:count][:limit]), self._outputs_in_arena()

    def camera_to_network(
        self, frame: NDArray[np.uint8] | bytes, width: int, height: int, stride: int, out: tuple[int, int] = (64, 64)
    ) -> NDArray[np.uint8]:
        """YUYV picture of ``stride`` bytes a row to the network input uint8 [out height, out width, 2].

        Raises ``DataError`` if the sizes do not fit the frame.
        """
        data = np.frombuffer(bytes(frame), np.uint8)
        result = np.empty((*out, 2), np.uint8)
        status = self._library.uhd_twin_camera_to_network(
            ctypes.c_void_p(data.ctypes.data), ctypes.c_uint32(data.size), ctypes.c_uint32(width),
            ctypes.c_uint32(height), ctypes.c_uint32(stride), ctypes.c_uint16(out[1]), ctypes.c_uint16(out[0]),
            ctypes.c_void_p(result.ctypes.data),
        )  # fmt: skip
        if status < 0:
            raise DataError(f"a frame of {data.size} bytes is not {width}x{height} YUYV with {stride} bytes a row")
        return result

    def _call(self, source: int, outputs: list[int]) -> None:
        pointers = (ctypes.c_void_p * len(outputs))(*outputs)
        status = self._library.uhd_twin_model_run(
            ctypes.c_void_p(source), pointers, ctypes.c_void_p(self._arena.ctypes.data)
        )
        if status < 0:
            raise DeviceError(f"the twin reports status {-status}")

    def _outputs_in_arena(self) -> dict[str, NDArray[Any]]:
        return {
            t.name: self._arena[t.arena_offset : t.arena_offset + t.size].view(t.dtype).reshape(t.shape).copy()
            for t in self.info.outputs
        }

    def _fitted(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        place = self.info.input
        wanted = f"the model wants {place.name} {list(place.shape)} {place.dtype}"
        if list(inputs) != [place.name]:
            raise DataError(f"inputs named {', '.join(inputs) or 'nothing'}", hint=wanted)
        array = np.asarray(inputs[place.name])
        limits = np.iinfo(place.dtype)
        if array.dtype.kind not in "iu" or array.shape not in (place.shape, place.shape[1:]):
            raise DataError(f"an input of {array.dtype} {list(array.shape)}", hint=wanted)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise DataError(f"input values from {array.min()} to {array.max()}", hint=wanted)
        return np.ascontiguousarray(array, place.dtype)
