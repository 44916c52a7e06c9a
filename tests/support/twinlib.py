"""The C++ core compiled for this machine, with a made-up model, through ctypes.

With ``UHD_TEST_SANITIZE=1`` it is compiled with the address and undefined-behaviour sanitizers; the process then has
to run with their libraries preloaded (tests/core/test_sanitizers.py does that).
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.fakemodel import FakeModel
from uhd.device.compile import CORE, build, host_toolchain, twin_sources
from uhd.device.messages import MAX_PAYLOAD
from uhd.files import write_text
from uhd.paths import build_root

SANITIZE = os.environ.get("UHD_TEST_SANITIZE") == "1"
_WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")


def model_source(model: FakeModel) -> Path:
    """The model's C++ file, kept by content in the build folder."""
    source = build_root() / "test-models" / hashlib.sha256(model.source().encode()).hexdigest()[:24] / "model.cpp"
    write_text(source, model.source())
    return source


def compile_model(model: FakeModel, first_include: Path | None = None) -> Path:
    """A shared library of core, C interface and ``model``; kept by content in the build folder."""
    source = model_source(model)
    includes = [*([first_include] if first_include else []), CORE / "include"]
    sources = [*twin_sources(), source]
    toolchain = host_toolchain(sanitize=SANITIZE)
    toolchain = dataclasses.replace(toolchain, flags=(*toolchain.flags, *_WARNINGS))
    return build(toolchain, sources, "uhd-test-twin.so", includes=includes)


class Library:
    """The C interface, with NumPy arrays and bytes in place of pointers."""

    def __init__(self, model: FakeModel | None = None, *, first_include: Path | None = None) -> None:
        self.model = model or FakeModel()
        self.c = ctypes.CDLL(str(compile_model(self.model, first_include)))
        for name in ("uhd_twin_decoder_new", "uhd_twin_device_new", "uhd_twin_espdl"):
            getattr(self.c, name).restype = ctypes.c_void_p
        for name in ("uhd_twin_encode", "uhd_twin_decoder_feed", "uhd_twin_device_receive", "uhd_twin_device_send"):
            getattr(self.c, name).restype = ctypes.c_size_t
        self.c.uhd_twin_crc32.restype = ctypes.c_uint32

    def encode(self, type_: int, seq: int, payload: bytes) -> bytes:
        out = ctypes.create_string_buffer(2 * len(payload) + 64)
        size = self.c.uhd_twin_encode(
            type_, seq, payload, ctypes.c_size_t(len(payload)), out, ctypes.c_size_t(len(out))
        )
        assert size <= len(out)
        return out.raw[:size]

    def decode(
        self, outputs: dict[str, NDArray[Any]], score_threshold: int, nms_iou: int, top_k: int
    ) -> tuple[NDArray[np.int32], int]:
        """Rows [n, 6] of score, class, cx, cy, w, h, and the number of candidates."""
        arrays = [np.ascontiguousarray(outputs[name]) for name in self.model.output_channels]
        pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        rows = np.zeros((top_k, 6), np.int32)
        candidates = ctypes.c_uint32()
        arguments = (ctypes.c_uint16(score_threshold), ctypes.c_uint16(nms_iou), ctypes.c_uint16(top_k))
        count = self.c.uhd_twin_decode(
            pointers, *arguments, ctypes.c_void_p(rows.ctypes.data), ctypes.byref(candidates)
        )
        assert 0 <= count <= top_k
        return rows[:count], candidates.value

    def sent(
        self, outputs: dict[str, NDArray[Any]], score_threshold: int, nms_iou: int, top_k: int
    ) -> tuple[NDArray[np.int32], int]:
        """The same as a device sends it: sides in 1/16384, rounded here once more, independently of the C++."""
        rows, candidates = self.decode(outputs, score_threshold, nms_iou, top_k)
        return as_sent(rows), candidates


def as_sent(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rows in 1/65535 with their sides in 1/16384, to nearest by the document's formula, at most 65535."""
    sent = rows.copy()
    sent[:, 4:] = np.minimum((rows[:, 4:].astype(np.int64) + 2) // 4, 65535)
    return sent


@functools.cache
def library(model: FakeModel | None = None) -> Library:
    """The library of a model, loaded once."""
    return Library(model)


class CppDecoder:
    """The C++ frame decoder."""

    def __init__(self, library: Library) -> None:
        self._c = library.c
        self._handle = ctypes.c_void_p(self._c.uhd_twin_decoder_new())

    def close(self) -> None:
        self._c.uhd_twin_decoder_free(self._handle)

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Frames (type, seq, payload) that ``data`` completes."""
        type_, seq, size = ctypes.c_uint8(), ctypes.c_uint16(), ctypes.c_int32()
        payload = ctypes.create_string_buffer(MAX_PAYLOAD)
        buffer = ctypes.create_string_buffer(data, len(data))
        start, position, frames = ctypes.addressof(buffer), 0, []
        while position < len(data):
            position += self._c.uhd_twin_decoder_feed(
                self._handle, ctypes.c_void_p(start + position), ctypes.c_size_t(len(data) - position),
                ctypes.byref(type_), ctypes.byref(seq), payload, ctypes.byref(size),
            )  # fmt: skip
            if size.value >= 0:
                frames.append((type_.value, seq.value, payload.raw[: size.value]))
        return frames

    @property
    def counters(self) -> dict[str, int]:
        values = (ctypes.c_uint32 * 4)()
        self._c.uhd_twin_decoder_counters(self._handle, values)
        return dict(zip(("frames", "crc_errors", "malformed", "overlong"), values, strict=True))


class CppDevice:
    """The whole device of the C++ core, fed from memory, as a ``uhd.device.ports.Port``.

    It answers within ``write``, so a read that finds nothing waits in vain, like one from a silent port.
    """

    name = "in memory"

    def __init__(self, library: Library, *, credit: int = 4096, memory: int = 0) -> None:
        self._c, self._credit, self._memory = library.c, credit, memory
        self._handle = self._new()
        self.said = bytearray(self._collect(b""))

    def _new(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(
            self._c.uhd_twin_device_new(ctypes.c_uint32(self._credit), ctypes.c_size_t(self._memory))
        )

    def _collect(self, data: bytes) -> bytes:
        size = self._c.uhd_twin_device_receive(self._handle, data, ctypes.c_size_t(len(data)))
        out = ctypes.create_string_buffer(max(size, 1))
        self._c.uhd_twin_device_send(self._handle, out)
        return out.raw[:size]

    def to_device(self, data: bytes) -> bytes:
        """Hook: what arrives of what the host sends."""
        return data

    def to_host(self, data: bytes) -> bytes:
        """Hook: what arrives of what the device sends."""
        return data

    def write(self, data: bytes, timeout: float = 5.0) -> None:
        self.said += self.to_host(self._collect(self.to_device(data)))

    def read(self, timeout: float) -> bytes:
        if not self.said:
            time.sleep(timeout)
        data = bytes(self.said)
        self.said.clear()
        return data

    def reset(self) -> None:
        """Power off and on: everything it knew is gone."""
        self._c.uhd_twin_device_free(self._handle)
        self._handle = self._new()
        self.said = bytearray(self.to_host(self._collect(b"")))

    @property
    def is_shut_down(self) -> bool:
        return bool(self._c.uhd_twin_device_is_shut_down(self._handle))

    def close(self) -> None:
        if self._handle:
            self._c.uhd_twin_device_free(self._handle)
            self._handle = ctypes.c_void_p()
