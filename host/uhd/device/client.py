"""Talking to a device: say hello, configure it, give it pictures, get boxes. The rules are in ``docs/protocol.md``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.device.connection import Connection, SessionLost, Tap
from uhd.device.messages import CODES, DEFAULT_LIMIT, ENUMS, LIMITS, MAX_CANDIDATES, MAX_DETECTIONS, PROTOCOL_VERSION
from uhd.device.ports import Port
from uhd.device.results import DeviceInfo, Result, Wanted, device_info
from uhd.device.stream import Stream
from uhd.device.transfer import Transfer
from uhd.errors import ConfigError, DeviceError

_FLAGS = CODES["ConfigFlags"]


def to_q16(value: float, name: str = "value") -> int:
    """0..1 in units of 1/65535, to nearest. Raises ``ConfigError`` outside that range."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value}", hint="give a number from 0 to 1")
    return round(value * 65535)


class DeviceClient:
    """The host's side of a session. Not for use by several threads at once; the port stays the caller's.

    ``timeout``: seconds of silence before something is sent again; ``retries``: how often in a row; ``patience``:
    seconds that one inference may take. Console lines go to ``on_console`` and into ``connection.console``.
    ``tap`` hears every frame, both ways, and every console line.
    """

    def __init__(
        self,
        port: Port,
        *,
        timeout: float = 1.0,
        retries: int = 5,
        patience: float = 60.0,
        on_console: Callable[[str], None] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.connection = Connection(port, timeout, retries, on_console, tap)
        self._name = port.name
        self._patience = patience
        self._frame_id = 0
        self._info: DeviceInfo | None = None
        self._config: dict[str, int] | None = None

    @property
    def info(self) -> DeviceInfo:
        """What ``hello`` learned; says hello if nobody has."""
        return self._info or self.hello()

    def hello(self, *, expect_hash: str | Collection[str] | None = None, require_ready: bool = True) -> DeviceInfo:
        """Start a session and learn what the device is.

        ``expect_hash``: SHA-256 (hexadecimal) of the .espdl the device must run, or several to choose from. Raises
        ``DeviceError`` if the device is silent, speaks another protocol version, runs a model of another hash, or
        (with ``require_ready``) reports that it cannot infer.
        """
        self.connection.decoder.restart()
        message = self.connection.request("HELLO", "INFO", protocol_version=PROTOCOL_VERSION)
        if not message.tail:
            raise DeviceError(f"{self._name}: the device describes no input tensor", hint="update its firmware")
        info = device_info(message)
        known = [expect_hash] if isinstance(expect_hash, str) else expect_hash
        if known is not None and info.model_hash not in known:
            wanted = " or ".join(sorted(known)) or "none"
            raise DeviceError(
                f"{self._name}: the device runs model {info.model_hash} ({info.name}), expected {wanted}",
                hint="flash the matching firmware or name the matching model",
            )
        if require_ready and info.health != CODES["Health"]["OK"]:
            text = next((t for _, v, t in ENUMS["Health"] if v == info.health), f"health {info.health}")
            raise DeviceError(f"{self._name}: the device is not ready: {text}", hint="build and flash it again")
        self._info, self._config = info, None
        return info

    def configure(
        self,
        *,
        score_threshold: float | None = None,
        nms_iou: float | None = None,
        top_k: int | None = None,
        limit: int = DEFAULT_LIMIT,
        send_outputs: bool = False,
        send_thumbnail: bool = False,
        thumbnail_every: int | None = None,
        send_timing: bool = True,
        stream: bool = False,
        results_every: int = 1,
    ) -> None:
        """Replace the device's configuration; what is None becomes the model's own.

        Thresholds are 0..1; ``top_k`` (1 to 1024) candidates enter suppression and ``limit`` (1 to 250) boxes leave it.
        ``send_outputs``: the integer output tensors come with every result; ``send_timing``: the device's times do.
        ``thumbnail_every``: the network input comes with every n-th picture (host's pictures whose number is a multiple
        of n, counted from 1), 0 for none; ``send_thumbnail`` is short for 1.
        ``stream``: the results of the device's own camera are sent as they come (``results``), those of every
        ``results_every``-th picture (1 to 65535).
        Raises ``ConfigError`` for a value out of range.
        """
        info = self.info
        thumbnail_every = int(send_thumbnail) if thumbnail_every is None else thumbnail_every
        for name, value, least, top in (
            ("top_k", top_k, 1, MAX_CANDIDATES),
            ("limit", limit, 1, MAX_DETECTIONS),
            ("thumbnail_every", thumbnail_every, 0, 0xFFFF),
            ("results_every", results_every, 1, 0xFFFF),
        ):
            if value is not None and not least <= value <= top:
                raise ConfigError(f"{name} is {value}", hint=f"give a number from {least} to {top}")
        config = {
            "score_threshold": info.score_threshold_q16
            if score_threshold is None
            else to_q16(score_threshold, "score threshold"),
            "nms_iou": info.nms_iou_q16 if nms_iou is None else to_q16(nms_iou, "NMS IoU"),
            "top_k": info.top_k if top_k is None else top_k,
            "limit": limit,
            "flags": send_outputs * _FLAGS["SEND_OUTPUTS"]
            | send_timing * _FLAGS["SEND_TIMING"]
            | stream * _FLAGS["STREAM"],
            "thumbnail_every": thumbnail_every,
            "results_every": results_every,
        }
        try:
            self.connection.request("CONFIG", "ACK", **config)
        except SessionLost:
            self._config = config
            self._resume()
        self._config = config

    def results(self, *, timeout: float = 10.0) -> Iterator[Result]:
        """What the device's own camera sees, without end; ``configure(stream=True)`` comes first.

        Raises ``DeviceError`` when nothing comes for ``timeout`` seconds. A restart of the device is survived.
        """
        while True:
            stream = Stream(self.connection, self.info, self._wanted)
            try:
                yield from stream.results(timeout)
            except SessionLost:
                self._resume()

    def stats(self) -> dict[str, int]:
        """The device's counters since its boot and its times, by their names in STATS."""
        _ = self.info
        try:
            message = self.connection.request("STATS_REQUEST", "STATS")
        except SessionLost:
            self._resume()
            message = self.connection.request("STATS_REQUEST", "STATS")
        return dict(message.fields)

    def shutdown(self) -> None:
        """Ask an emulated device to end; does not wait for it."""
        _ = self.info
        self.connection.send("SHUTDOWN", magic=LIMITS["SHUTDOWN_MAGIC"][0])

    def infer_network(self, network_input: NDArray[np.uint8]) -> Result:
        """Boxes of a network input, uint8 [height, width, channels]; value / 255 is what the network sees."""
        shape = self.info.input.shape[1:]
        picture = np.asarray(network_input)
        if picture.dtype != np.uint8 or picture.shape != shape:
            raise ConfigError(f"network input is {picture.dtype} {picture.shape}, the model takes uint8 {shape}")
        return self._infer("NETWORK_U8", picture.tobytes(), shape[1], shape[0], 0)

    def infer_camera(self, frame: bytes | NDArray[np.uint8], width: int, height: int, stride: int = 0) -> Result:
        """Boxes of a YUYV camera picture, ``height`` rows of ``stride`` bytes (default 2 * ``width``), width even."""
        stride = stride or 2 * width
        data = frame.tobytes() if isinstance(frame, np.ndarray) else bytes(frame)
        if not (2 <= width <= 0xFFFF and 1 <= height <= 0xFFFF) or width % 2 or stride < 2 * width:
            raise ConfigError(f"camera picture {width}x{height}, stride {stride}", hint="the width must be even")
        needed, most = stride * (height - 1) + 2 * width, LIMITS["MAX_FRAME_BYTES"][0]
        if not needed <= len(data) <= most:
            raise ConfigError(f"camera picture of {len(data)} bytes", hint=f"give {needed} to {most} bytes")
        return self._infer("CAMERA_YUYV", data, width, height, stride)

    def infer_tensor(self, tensor: NDArray[Any]) -> Result:
        """Boxes of the model's own input integers, [1, height, width, channels] or without the 1."""
        spec = self.info.input
        values, bounds = np.asarray(tensor), np.iinfo(spec.dtype)
        if values.dtype.kind not in "iu" or values.shape not in (spec.shape, spec.shape[1:]):
            raise ConfigError(
                f"input tensor is {values.dtype} {values.shape}, the model takes {spec.dtype} {spec.shape}"
            )
        if values.min() < bounds.min or values.max() > bounds.max:
            raise ConfigError(f"input tensor holds {values.min()} to {values.max()}, which is no {spec.dtype}")
        data = values.astype(spec.dtype.newbyteorder("<")).tobytes()
        return self._infer("TENSOR", data, spec.shape[2], spec.shape[1], 0)

    def _infer(self, format_: str, data: bytes, width: int, height: int, stride: int) -> Result:
        head = {
            "format": CODES["FrameFormat"][format_],
            "width": width,
            "height": height,
            "stride": stride,
            "total": len(data),
        }
        for _ in range(3):
            self._frame_id = (self._frame_id + 1) % LIMITS["CAMERA_FRAMES"][0]
            transfer = Transfer(self.connection, self.info, {"frame_id": self._frame_id, **head}, data, self._patience)
            transfer.expect(self._wanted(), tensor=format_ == "TENSOR")
            try:
                return transfer.run()
            except SessionLost:
                self._resume()
        raise DeviceError(f"{self._name}: the device restarts again and again", hint="look at its console output")

    def _wanted(self) -> Wanted:
        if self._config is None:
            return Wanted()
        flags = self._config["flags"]
        return Wanted(
            outputs=bool(flags & _FLAGS["SEND_OUTPUTS"]),
            timing=bool(flags & _FLAGS["SEND_TIMING"]),
            thumbnail_every=self._config["thumbnail_every"],
            results_every=self._config["results_every"],
        )

    def _resume(self) -> None:
        """After a restart of the device: the same model must be there; take up the session as it was."""
        model_hash, config = self.info.model_hash, self._config
        self.connection.counters.restarts += 1
        self.hello(expect_hash=model_hash)
        if config is not None:
            self.connection.request("CONFIG", "ACK", **config)
            self._config = config
