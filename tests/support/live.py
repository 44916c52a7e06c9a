"""The C++ device with a camera, a display and a clock of the test's own (live_api.cpp)."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.fakemodel import FakeModel
from support.twinlib import SANITIZE, model_source
from uhd.device.compile import CORE, build, host_toolchain, twin_sources
from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import MESSAGES, PROTOCOL_VERSION, Message, pack, unpack

FORMATS = {"yuyv": 0, "rgb565le": 1, "rgb565be": 2}
COUNTERS = ("given_back", "shown", "boxes", "fps_x10", "threshold", "model_threshold")


@functools.cache
def live_library(model: FakeModel) -> ctypes.CDLL:
    toolchain = host_toolchain(sanitize=SANITIZE)
    flags = [flag for flag in toolchain.flags if flag not in ("-fno-exceptions", "-fno-rtti")]
    sources = [*twin_sources(), model_source(model), Path(__file__).with_name("live_api.cpp")]
    path = build(dataclasses.replace(toolchain, flags=(*flags, "-Wall", "-Wextra", "-Werror")), sources,
                 "uhd-test-live.so", includes=[CORE / "include"])  # fmt: skip
    c = ctypes.CDLL(str(path))
    c.live_new.restype, c.live_receive.restype = ctypes.c_void_p, ctypes.c_size_t
    return c


class LiveDevice:
    """A started device; ``say`` is the host, ``picture`` and ``watch`` its camera."""

    def __init__(self, model: FakeModel, *, viewer: bool = False, keeps: bool = False, refuse: int = 0) -> None:
        self._c = live_library(model)
        self._handle = ctypes.c_void_p(self._c.live_new(viewer, keeps, refuse))
        self._decoder, self._seq = Decoder(), 0

    def close(self) -> None:
        self._c.live_run_fails(0)
        self._c.live_free(self._handle)

    def said(self, data: bytes = b"") -> bytes:
        """What the device says, after it has taken ``data``."""
        size = self._c.live_receive(self._handle, data, ctypes.c_size_t(len(data)))
        out = ctypes.create_string_buffer(max(1, size))
        self._c.live_send(self._handle, out)
        return out.raw[:size]

    def heard(self, data: bytes = b"") -> list[Message]:
        """``said``, as messages."""
        said = self._decoder.feed(self.said(data))
        return [unpack(f.type, f.payload) for f in said if isinstance(f, Frame)]

    def say(self, name: str, tail: bytes = b"", **values: Any) -> list[Message]:
        self._seq += 1
        return self.heard(encode_frame(MESSAGES[name].type, self._seq, pack(name, tail, **values)))

    def hello(self) -> Message:
        return self.say("HELLO", protocol_version=PROTOCOL_VERSION)[-1]

    def stream(self, **values: Any) -> list[Message]:
        return self.say(
            "CONFIG", **{"top_k": 100, "limit": 100, "flags": 4, "nms_iou": 32768, "results_every": 1, **values}
        )

    def clock(self, micros: int) -> None:
        self._c.live_clock(self._handle, ctypes.c_uint64(micros))

    def picture(self, data: NDArray[np.uint8] | bytes, width: int, height: int, *, stride: int = 0,
                format_: str = "yuyv", captured: int = 0) -> None:  # fmt: skip
        raw = bytes(data) if isinstance(data, bytes) else data.tobytes()
        self._c.live_picture(self._handle, raw, len(raw), width, height, stride or 2 * width, FORMATS[format_],
                             ctypes.c_uint64(captured))  # fmt: skip

    def watch(self) -> bool:
        return bool(self._c.live_watch(self._handle))

    def fault(self, code: int, text: str | None = None) -> None:
        self._c.live_fault(self._handle, code, text.encode() if text else None)

    def mended(self, code: int) -> None:
        self._c.live_mended(self._handle, code)

    def set_threshold(self, q16: int) -> None:
        self._c.live_threshold(self._handle, q16)

    def temperature(self, tenths: int) -> None:
        self._c.live_temperature(self._handle, tenths)

    def drop(self, count: int) -> None:
        self._c.live_dropped(self._handle, count)

    def let_model_fail(self, fails: bool) -> None:
        self._c.live_run_fails(fails)

    @property
    def counters(self) -> dict[str, int]:
        values = (ctypes.c_uint32 * len(COUNTERS))()
        self._c.live_counters(self._handle, values)
        return dict(zip(COUNTERS, values, strict=True))
